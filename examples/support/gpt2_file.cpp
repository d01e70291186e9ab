// SPDX-License-Identifier: BSD-3-Clause
#include "gpt2_file.hpp"

#include <scaledot/safetensors.hpp>

#include <stdexcept>
#include <string>

namespace examples {

struct gpt2_file::opened {
    scaledot::safetensors_file tensors;

    xt::xarray<float> read(std::size_t prompt, const std::string& name) const
    {
        return tensors.read<float>(std::to_string(prompt) + "." + name);
    }

    /// A number for each query and key of each head.
    xt::xarray<float> read_heads(std::size_t prompt, const std::string& name) const
    {
        xt::xarray<float> x = read(prompt, name);
        if (x.dimension() != 4 || x.shape(0) != gpt2_layers || x.shape(1) != gpt2_heads || x.shape(2) != x.shape(3) ||
            x.shape(3) < 2) {
            throw std::runtime_error(tensors.file_name() + ": the " + name +
                                     " of a prompt must be [12, 12, L, L], L at least 2");
        }
        return x;
    }
};

gpt2_file::gpt2_file(const std::filesystem::path& path) : file_(new opened{scaledot::safetensors_file(path)}) {}

gpt2_file::~gpt2_file() = default;

xt::xarray<float> gpt2_file::scores(std::size_t prompt) const
{
    return file_->read_heads(prompt, "scores");
}

xt::xarray<float> gpt2_file::probabilities(std::size_t prompt) const
{
    return file_->read_heads(prompt, "probabilities");
}

xt::xarray<float> gpt2_file::logits(std::size_t prompt) const
{
    return file_->read(prompt, "logits");
}

xt::xtensor<float, 2> last_rows(const xt::xarray<float>& scores, double scale)
{
    const std::size_t keys = scores.shape(3);
    xt::xtensor<float, 2> rows = xt::xtensor<float, 2>::from_shape({gpt2_layers * gpt2_heads, keys});
    for (std::size_t head = 0; head < rows.shape(0); ++head) {
        for (std::size_t key = 0; key < keys; ++key) {
            rows(head, key) = static_cast<float>(scores(head / gpt2_heads, head % gpt2_heads, keys - 1, key) * scale);
        }
    }
    return rows;
}

} // namespace examples
