#include "weights.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "error.h"

namespace nano {

namespace {

std::size_t checked_size(std::int64_t value, const char* name) {
    constexpr std::int64_t kMost = std::int64_t{1} << 24;
    if (value < 1 || value > kMost) throw Error(NANO_INVALID, std::string(name) + " is out of range");
    return static_cast<std::size_t>(value);
}

void must_divide(std::size_t whole, std::size_t part, const char* what) {
    if (whole % part != 0) throw Error(NANO_INVALID, std::string(what) + " does not divide evenly");
}

class TensorTable {
public:
    TensorTable(const WeightsFile& file, const nano_tensor* tensors, std::size_t count) : file_(file) {
        for (std::size_t i = 0; i < count; ++i) {
            if (tensors[i].name == nullptr) throw Error(NANO_INVALID, "a tensor has no name");
            by_name_[tensors[i].name] = &tensors[i];
        }
    }

    bool has(const std::string& name) const { return by_name_.count(name) != 0; }

    const float* vector(const std::string& name, std::size_t rows, std::size_t cols = 1) const {
        return reinterpret_cast<const float*>(bytes(name, NANO_FLOAT32, rows, cols, rows * cols * sizeof(float)));
    }

    const float* optional_vector(const std::string& name, std::size_t rows) const {
        return has(name) ? vector(name, rows) : nullptr;
    }

    const std::uint16_t* halves(const std::string& name, std::size_t rows, std::size_t cols) const {
        return reinterpret_cast<const std::uint16_t*>(bytes(name, NANO_FLOAT16, rows, cols, rows * cols * 2));
    }

    PanelMatrix matrix(const std::string& stem, std::size_t rows, std::size_t cols) const {
        if (cols % kGroup != 0) throw Error(NANO_INVALID, stem + ": input dimension is no multiple of 64");
        PanelMatrix m;
        m.rows = rows;
        m.cols = cols;
        m.bits = named(stem + ".weight").kind == NANO_INT8_PANELS ? 8 : 4;
        m.panels = bytes(stem + ".weight", m.bits == 8 ? NANO_INT8_PANELS : NANO_INT4_PANELS, rows, cols,
                         m.panel_count() * m.groups() * m.block_bytes());
        m.bias = optional_vector(stem + ".bias", rows);
        return m;
    }

private:
    const nano_tensor& named(const std::string& name) const {
        const auto found = by_name_.find(name);
        if (found == by_name_.end()) throw Error(NANO_DAMAGED, "the weights lack tensor " + name);
        return *found->second;
    }

    const std::uint8_t* bytes(const std::string& name, std::int64_t kind, std::size_t rows, std::size_t cols,
                              std::size_t nbytes) const {
        const nano_tensor& t = named(name);
        if (t.kind != kind || t.rows != static_cast<std::int64_t>(rows) || t.cols != static_cast<std::int64_t>(cols) ||
            t.nbytes != nbytes) {
            throw Error(NANO_DAMAGED, "tensor " + name + " does not have the type and shape that config.json asks for");
        }
        if (t.offset % 64 != 0 || t.offset > file_.size() || nbytes > file_.size() - t.offset) {
            throw Error(NANO_DAMAGED, "tensor " + name + " lies outside the weights file or is not aligned");
        }
        return file_.at(static_cast<std::size_t>(t.offset));
    }

    const WeightsFile& file_;
    std::unordered_map<std::string, const nano_tensor*> by_name_;
};

MambaWeights bind_mamba(const TensorTable& table, const Config& c, const std::string& stem) {
    MambaWeights w;
    w.in_proj = table.matrix(stem + "in_proj", c.in_proj_dim(), c.hidden_size);
    w.out_proj = table.matrix(stem + "out_proj", c.hidden_size, c.d_inner());
    const float* conv = table.vector(stem + "conv1d.weight", c.conv_dim(), c.conv_kernel);
    w.conv.resize(c.conv_dim() * c.conv_kernel);
    for (std::size_t channel = 0; channel < c.conv_dim(); ++channel) {
        for (std::size_t k = 0; k < c.conv_kernel; ++k) {
            w.conv[k * c.conv_dim() + channel] = conv[channel * c.conv_kernel + k];
        }
    }
    w.conv_bias = table.optional_vector(stem + "conv1d.bias", c.conv_dim());
    w.dt_bias = table.vector(stem + "dt_bias", c.mamba_heads);
    const float* a_log = table.vector(stem + "A_log", c.mamba_heads);
    for (std::size_t h = 0; h < c.mamba_heads; ++h) w.neg_a.push_back(-std::exp(a_log[h]));
    w.skip = table.vector(stem + "D", c.mamba_heads);
    w.norm = table.vector(stem + "norm.weight", c.d_inner());
    return w;
}

}  // namespace

Config::Config(const nano_config& raw)
    : vocab_size(checked_size(raw.vocab_size, "vocab_size")),
      hidden_size(checked_size(raw.hidden_size, "hidden_size")),
      intermediate_size(checked_size(raw.intermediate_size, "intermediate_size")),
      mamba_heads(checked_size(raw.mamba_heads, "mamba_num_heads")),
      mamba_head_dim(checked_size(raw.mamba_head_dim, "mamba_head_dim")),
      state_size(checked_size(raw.state_size, "ssm_state_size")),
      n_groups(checked_size(raw.n_groups, "n_groups")),
      conv_kernel(checked_size(raw.conv_kernel, "conv_kernel")),
      attention_heads(checked_size(raw.attention_heads, "num_attention_heads")),
      kv_heads(checked_size(raw.kv_heads, "num_key_value_heads")),
      head_dim(checked_size(raw.head_dim, "head_dim")),
      norm_eps(static_cast<float>(raw.norm_eps)),
      dt_min(static_cast<float>(raw.dt_min)),
      dt_max(static_cast<float>(raw.dt_max)),
      pattern(raw.pattern != nullptr ? raw.pattern : "") {
    if (pattern.empty() || pattern.size() > 1024 || pattern.find_first_not_of("M*-") != std::string::npos) {
        throw Error(NANO_INVALID, "the layer pattern must consist of M * -");
    }
    must_divide(mamba_heads, n_groups, "mamba_num_heads by n_groups");
    must_divide(attention_heads, kv_heads, "num_attention_heads by num_key_value_heads");
}

std::size_t Config::layers_of(char kind) const {
    return static_cast<std::size_t>(std::count(pattern.begin(), pattern.end(), kind));
}

Weights::Weights(const std::string& path, const Config& c, const nano_tensor* tensors, std::size_t count, bool huge_pages)
    : file_(path), hidden_size_(c.hidden_size) {
    const TensorTable table(file_, tensors, count);
    embedding_ = table.halves("backbone.embeddings.weight", c.vocab_size, c.hidden_size);
    const std::size_t embedding_begin = static_cast<std::size_t>(reinterpret_cast<const std::uint8_t*>(embedding_) - file_.at(0));
    file_.load(embedding_begin, c.vocab_size * c.hidden_size * sizeof(std::uint16_t), huge_pages);
    final_norm = table.vector("backbone.norm_f.weight", c.hidden_size);
    lm_head = table.matrix("lm_head", c.vocab_size, c.hidden_size);
    weight_count_ = lm_head.rows * lm_head.cols;
    for (std::size_t i = 0; i < c.pattern.size(); ++i) {
        const std::string stem = "backbone.layers." + std::to_string(i) + ".";
        const std::string mixer = stem + "mixer.";
        LayerWeights layer;
        layer.kind = c.pattern[i];
        layer.norm = table.vector(stem + "norm.weight", c.hidden_size);
        if (layer.kind == 'M') {
            layer.mamba = bind_mamba(table, c, mixer);
        } else if (layer.kind == '*') {
            layer.attention.q = table.matrix(mixer + "q_proj", c.q_dim(), c.hidden_size);
            layer.attention.k = table.matrix(mixer + "k_proj", c.kv_dim(), c.hidden_size);
            layer.attention.v = table.matrix(mixer + "v_proj", c.kv_dim(), c.hidden_size);
            layer.attention.o = table.matrix(mixer + "o_proj", c.hidden_size, c.q_dim());
        } else {
            layer.mlp.up = table.matrix(mixer + "up_proj", c.intermediate_size, c.hidden_size);
            layer.mlp.down = table.matrix(mixer + "down_proj", c.hidden_size, c.intermediate_size);
        }
        for (const PanelMatrix* m : {&layer.mamba.in_proj, &layer.mamba.out_proj, &layer.attention.q, &layer.attention.k,
                                    &layer.attention.v, &layer.attention.o, &layer.mlp.up, &layer.mlp.down}) {
            weight_count_ += m->rows * m->cols;
        }
        layers.push_back(std::move(layer));
    }
}

void Weights::embed(std::size_t token, float* out) const {
    const std::uint16_t* row = embedding_ + token * hidden_size_;
    for (std::size_t i = 0; i < hidden_size_; ++i) out[i] = half_to_float(row[i]);
}

}  // namespace nano
