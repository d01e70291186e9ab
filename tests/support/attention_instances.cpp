// SPDX-License-Identifier: BSD-3-Clause
#define SCALEDOT_ATTENTION_INSTANCE template
#include "attention_instances.hpp"
