// SPDX-License-Identifier: BSD-3-Clause
// OpenBLAS: sgemm by blocks of 128 query rows, skipping keys that a block can't see; decoding in
// blocks of keys, sgemv for the scores of a single row.
#include "by_rows.hpp"

#include <cblas.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>

// The build of the Python package scipy-openblas32 prefixes every name.
#if defined(SCALEDOT_OPENBLAS_PREFIXED)
#define SCALEDOT_OPENBLAS(name) scipy_##name
#else
#define SCALEDOT_OPENBLAS(name) name
#endif

namespace scaledot_benchmark {
namespace {

/// Keys multiplied in one call. With few rows, sgemm packs more than it multiplies: it does so best in the caches.
std::size_t keys_together(const row_block& b)
{
    return b.rows <= 16 ? std::min<std::size_t>(b.keys, 256) : b.keys;
}

/// Calls multiply(head, first key, keys) for all keys of all heads of a block.
template <class Multiply>
void for_each_product(const row_block& b, Multiply&& multiply)
{
    for (std::size_t h = 0; h < b.heads; ++h) {
        for (std::size_t j = 0; j < b.keys; j += keys_together(b)) {
            multiply(h, j, std::min(keys_together(b), b.keys - j));
        }
    }
}

struct openblas_product {
    static void scores(const row_block& b)
    {
        const auto rows = static_cast<blasint>(b.rows);
        const auto stride = static_cast<blasint>(b.keys);
        const auto size = static_cast<blasint>(b.size);
        if (rows == 1) {
            for (std::size_t h = 0; h < b.heads; ++h) {
                SCALEDOT_OPENBLAS(cblas_sgemv)
                (CblasRowMajor, CblasNoTrans, stride, size, scale_of(b), b.k + h * b.keys * b.size, size,
                 b.q + h * b.size, 1, 0.0f, b.scores + h * b.keys, 1);
            }
            return;
        }
        for_each_product(b, [&](std::size_t h, std::size_t first, std::size_t keys) {
            SCALEDOT_OPENBLAS(cblas_sgemm)
            (CblasRowMajor, CblasNoTrans, CblasTrans, rows, static_cast<blasint>(keys), size, scale_of(b),
             b.q + h * b.rows * b.size, size, b.k + (h * b.keys + first) * b.size, size, 0.0f,
             b.scores + h * b.rows * b.keys + first, stride);
        });
    }

    static void output(const row_block& b)
    {
        const auto rows = static_cast<blasint>(b.rows);
        const auto stride = static_cast<blasint>(b.keys);
        const auto size = static_cast<blasint>(b.size);
        // Also for a single row: faster than sgemv.
        for_each_product(b, [&](std::size_t h, std::size_t first, std::size_t keys) {
            SCALEDOT_OPENBLAS(cblas_sgemm)
            (CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, size, static_cast<blasint>(keys), 1.0f,
             b.scores + h * b.rows * b.keys + first, stride, b.v + (h * b.keys + first) * b.size, size,
             first == 0 ? 0.0f : 1.0f, b.out + h * b.rows * b.size, size);
        });
    }
};

class openblas final : public contender {
public:
    std::string name() const override { return "openblas"; }

    std::string description() const override
    {
        return std::string(SCALEDOT_OPENBLAS(openblas_get_config)()) + ", kernels for " +
               SCALEDOT_OPENBLAS(openblas_get_corename)();
    }

    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        SCALEDOT_OPENBLAS(openblas_set_num_threads)(1);
        return std::make_unique<attention_by_rows<openblas_product>>(problem, threads);
    }
};

const register_peer<openblas> registered;

} // namespace
} // namespace scaledot_benchmark
