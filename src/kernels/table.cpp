// SPDX-License-Identifier: BSD-3-Clause
// The table that dispatch.cpp picks: the one name of an instruction set's kernels that a program sees. The build calls
// it SCALEDOT_KERNELS_OF.
#include "calls.hpp"

#define SCALEDOT_NAME_EXPANDED(name) #name
#define SCALEDOT_NAME(name) SCALEDOT_NAME_EXPANDED(name)

namespace scaledot::SCALEDOT_COMPILED {

extern const kernels SCALEDOT_KERNELS_OF;
const kernels SCALEDOT_KERNELS_OF{SCALEDOT_NAME(SCALEDOT_KERNELS_OF),
                                  calls::attention,
                                  calls::scores,
                                  calls::probabilities,
                                  calls::softmax,
                                  calls::norm};

} // namespace scaledot::SCALEDOT_COMPILED
