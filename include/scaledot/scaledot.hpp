// SPDX-License-Identifier: BSD-3-Clause
// All of scaledot. Checkpoint reading needs nlohmann_json and is left out where its header is not found.
#ifndef SCALEDOT_SCALEDOT_HPP
#define SCALEDOT_SCALEDOT_HPP

#include <scaledot/attention.hpp>
#include <scaledot/attention_options.hpp>
#include <scaledot/bfloat16.hpp>
#include <scaledot/channels.hpp>
#include <scaledot/diagnostics.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/head_summary.hpp>
#include <scaledot/headroom.hpp>
#include <scaledot/key_mass.hpp>
#include <scaledot/kv_cache.hpp>
#include <scaledot/layer_norm.hpp>
#include <scaledot/merge.hpp>
#include <scaledot/qk_clip.hpp>
#include <scaledot/rms_norm.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/softmax.hpp>
#include <scaledot/split_heads.hpp>
#include <scaledot/statistics.hpp>
#include <scaledot/verdict.hpp>
#include <scaledot/version.hpp>
#include <scaledot/zone.hpp>

#if __has_include(<nlohmann/json.hpp>)
#include <scaledot/checkpoint.hpp>
#include <scaledot/safetensors.hpp>
#include <scaledot/safetensors_shards.hpp>
#endif

#endif
