// SPDX-License-Identifier: BSD-3-Clause
// The table that dispatch.cpp picks: the one name of an instruction set's kernels that a program sees. The build calls
// it SCALEDOT_KERNELS_OF, and defines SCALEDOT_NO_ROWS where softmax and norms are no other than the next narrower set's.
#include "calls.hpp"

#define SCALEDOT_NAME_EXPANDED(name) #name
#define SCALEDOT_NAME(name) SCALEDOT_NAME_EXPANDED(name)

namespace scaledot::SCALEDOT_COMPILED {

extern const kernels SCALEDOT_KERNELS_OF;
const kernels SCALEDOT_KERNELS_OF{SCALEDOT_NAME(SCALEDOT_KERNELS_OF),
                                  calls::attention,
                                  calls::scores,
                                  calls::probabilities,
#if defined(SCALEDOT_NO_ROWS)
                                  nullptr,
                                  nullptr
#else
                                  calls::softmax,
                                  calls::norm
#endif
};

} // namespace scaledot::SCALEDOT_COMPILED
