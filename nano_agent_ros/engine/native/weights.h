// The mapped weights of one model, bound to the layers that use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "aligned.h"
#include "kernels.h"
#include "nano_engine.h"
#include "weights_file.h"

namespace nano {

struct Config {
    std::size_t vocab_size, hidden_size, intermediate_size;
    std::size_t mamba_heads, mamba_head_dim, state_size, n_groups, conv_kernel;
    std::size_t attention_heads, kv_heads, head_dim;
    float norm_eps, dt_min, dt_max;
    std::string pattern;

    // Throws Error if a size is out of range or does not divide.
    explicit Config(const nano_config& raw);

    std::size_t d_inner() const { return mamba_heads * mamba_head_dim; }
    std::size_t conv_dim() const { return d_inner() + 2 * n_groups * state_size; }
    std::size_t in_proj_dim() const { return d_inner() + conv_dim() + mamba_heads; }
    std::size_t state_floats() const { return d_inner() * state_size; }
    std::size_t q_dim() const { return attention_heads * head_dim; }
    std::size_t kv_dim() const { return kv_heads * head_dim; }
    std::size_t layers_of(char kind) const;
};

struct MambaWeights {
    PanelMatrix in_proj, out_proj;
    AlignedVector<float> conv;  // [kernel, channels], transposed from the file's [channels, kernel]
    const float* conv_bias = nullptr;
    const float* dt_bias = nullptr;
    AlignedVector<float> neg_a;  // -exp(A_log)
    const float* skip = nullptr;
    const float* norm = nullptr;
};

struct AttentionWeights {
    PanelMatrix q, k, v, o;
};

struct MlpWeights {
    PanelMatrix up, down;
};

struct LayerWeights {
    char kind;
    const float* norm = nullptr;
    MambaWeights mamba;
    AttentionWeights attention;
    MlpWeights mlp;
};

class Weights {
public:
    // Throws Error if the file lacks a tensor or one does not have the size that the configuration asks for.
    Weights(const std::string& path, const Config& config, const nano_tensor* tensors, std::size_t count, bool huge_pages);

    void must_be_unchanged() const { file_.must_be_unchanged(); }  // throws Error, see WeightsFile
    void embed(std::size_t token, float* out) const;
    std::size_t weight_count() const { return weight_count_; }  // of the quantized matrices

    std::vector<LayerWeights> layers;
    const float* final_norm = nullptr;
    PanelMatrix lm_head;

private:
    WeightsFile file_;
    const std::uint16_t* embedding_ = nullptr;
    std::size_t hidden_size_ = 0;
    std::size_t weight_count_ = 0;
};

}  // namespace nano
