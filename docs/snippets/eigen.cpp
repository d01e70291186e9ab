// SPDX-License-Identifier: BSD-3-Clause
// Snippets of the documentation: Eigen's matrices as arguments and results.
#include <scaledot/scaledot.hpp>

#include "support.hpp"

#include <Eigen/Core>

namespace {

constexpr float close = 1e-5f;

// begin: adapt
/// Any dense Eigen matrix, map or block as a rank-2 view of the same elements, whatever its storage order.
template <class Dense>
auto as_tensor(Dense&& matrix)
{
    const std::array<std::size_t, 2> shape = {static_cast<std::size_t>(matrix.rows()),
                                              static_cast<std::size_t>(matrix.cols())};
    const std::array<std::ptrdiff_t, 2> strides = {matrix.rowStride(), matrix.colStride()};
    return xt::adapt(matrix.data(), shape[0] * shape[1], xt::no_ownership(), shape, strides);
}
// end: adapt

// begin: types
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>; // in place: as xtensor's
using ColumnMajor = Eigen::MatrixXf;                                                    // Eigen's default: copied first
// end: types

RowMajor softmax_of_rows(const RowMajor& scores)
{
    RowMajor p = (scores.colwise() - scores.rowwise().maxCoeff()).array().exp();
    return p.array().colwise() / p.rowwise().sum().array();
}

void one_head()
{
    // begin: one_head
    RowMajor q = RowMajor::Random(5, 8), k = RowMajor::Random(7, 8), v = RowMajor::Random(7, 8);
    RowMajor y(5, 8);
    scaledot::attention_into(as_tensor(y), as_tensor(q), as_tensor(k), as_tensor(v)); // rank 2 is one head
    // end: one_head
    const RowMajor expected = softmax_of_rows(q * k.transpose() / std::sqrt(8.f)) * v;
    CHECK((y - expected).cwiseAbs().maxCoeff() < close);

    // begin: column_major
    ColumnMajor queries = q; // the same numbers, column after column
    RowMajor same(5, 8);
    scaledot::attention_into(as_tensor(same), as_tensor(queries), as_tensor(k), as_tensor(v));
    // end: column_major
    CHECK(same == y);
}

void heads()
{
    // begin: heads
    // tokens x (heads * size), as a linear layer makes them: the heads are views of the matrix
    RowMajor q = RowMajor::Random(5, 32), k = RowMajor::Random(5, 32), v = RowMajor::Random(5, 32);
    RowMajor out(5, 32);
    auto [qt, kt, vt, yt] = std::tuple(as_tensor(q), as_tensor(k), as_tensor(v), as_tensor(out));
    scaledot::attention_into(scaledot::split_heads(yt, 4), scaledot::split_heads(qt, 4), scaledot::split_heads(kt, 4),
                             scaledot::split_heads(vt, 4));
    // end: heads
    for (Eigen::Index h = 0; h < 4; ++h) {
        const RowMajor scores = q.middleCols(8 * h, 8) * k.middleCols(8 * h, 8).transpose() / std::sqrt(8.f);
        const RowMajor expected = softmax_of_rows(scores) * v.middleCols(8 * h, 8);
        CHECK((out.middleCols(8 * h, 8) - expected).cwiseAbs().maxCoeff() < close);
    }
}

void rows_and_back()
{
    // begin: block
    RowMajor activations = RowMajor::Random(6, 20);
    auto block = activations.leftCols(16); // rows 20 elements apart
    scaledot::softmax_into(as_tensor(block), as_tensor(block));
    // end: block
    CHECK((activations.leftCols(16).rowwise().sum().array() - 1).abs().maxCoeff() < close);

    // begin: map
    // and a result of scaledot as an Eigen matrix, without a copy
    xt::xtensor<float, 2> normalised = scaledot::layer_norm(as_tensor(activations));
    Eigen::Map<RowMajor> matrix(normalised.data(), 6, 20);
    // end: map
    CHECK(matrix.rowwise().mean().cwiseAbs().maxCoeff() < close);
}

} // namespace

int main()
{
    one_head();
    heads();
    rows_and_back();
    return failures;
}
