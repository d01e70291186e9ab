// SPDX-License-Identifier: BSD-3-Clause
// OpenBLAS: sgemm by blocks of 128 query rows, skipping keys that a block can't see; sgemv for a single row.
#include "by_rows.hpp"

#include <cblas.h>

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

struct openblas_product {
    static void scores(const row_block& b)
    {
        const auto rows = static_cast<blasint>(b.rows);
        const auto keys = static_cast<blasint>(b.keys);
        const auto size = static_cast<blasint>(b.size);
        for (std::size_t h = 0; h < b.heads; ++h) {
            const float* q = b.q + h * b.rows * b.size;
            const float* k = b.k + h * b.keys * b.size;
            float* scores = b.scores + h * b.rows * b.keys;
            if (rows == 1) {
                SCALEDOT_OPENBLAS(cblas_sgemv)
                (CblasRowMajor, CblasNoTrans, keys, size, scale_of(b), k, size, q, 1, 0.0f, scores, 1);
            } else {
                SCALEDOT_OPENBLAS(cblas_sgemm)
                (CblasRowMajor, CblasNoTrans, CblasTrans, rows, keys, size, scale_of(b), q, size, k, size, 0.0f, scores,
                 keys);
            }
        }
    }

    static void output(const row_block& b)
    {
        const auto rows = static_cast<blasint>(b.rows);
        const auto keys = static_cast<blasint>(b.keys);
        const auto size = static_cast<blasint>(b.size);
        for (std::size_t h = 0; h < b.heads; ++h) {
            const float* v = b.v + h * b.keys * b.size;
            const float* weights = b.scores + h * b.rows * b.keys;
            float* out = b.out + h * b.rows * b.size;
            if (rows == 1) {
                SCALEDOT_OPENBLAS(cblas_sgemv)
                (CblasRowMajor, CblasTrans, keys, size, 1.0f, v, size, weights, 1, 0.0f, out, 1);
            } else {
                SCALEDOT_OPENBLAS(cblas_sgemm)
                (CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, size, keys, 1.0f, weights, keys, v, size, 0.0f, out,
                 size);
            }
        }
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
