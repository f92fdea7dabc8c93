#include "state.h"

#include <algorithm>
#include <cstring>

namespace nano {

StateMemory::StateMemory(const StateLayout& layout)
    : ssm(layout.ssm_floats() * sizeof(float), 2), kv(layout.kv_shape().block_bytes(), layout.kv_shape().most_blocks()) {}

State::State(const StateLayout& layout, StateMemory& memory) : State(layout, memory, Unset{}) {
    ssm_ = memory.ssm.take();
    std::memset(ssm_.get(), 0, memory.ssm.nbytes());
    for (MambaState& m : mamba) m.conv.assign(layout.conv_floats(), 0.0F);
    point();
}

State::State(const StateLayout& layout, StateMemory& memory, Unset)
    : mamba(layout.config.layers_of('M')), kv(layout.kv_shape(), memory.kv), layout_(&layout), memory_(&memory) {}

State State::fork() const {
    State copy(*layout_, *memory_, Unset{});
    copy.length = length + pending;
    copy.ssm_ = pending > 0 ? next_ : ssm_;
    const std::size_t skipped = pending * layout_->config.conv_dim();
    for (std::size_t i = 0; i < mamba.size(); ++i) {
        const float* conv = mamba[i].conv.data() + skipped;
        copy.mamba[i].conv.assign(conv, conv + layout_->conv_floats());
    }
    copy.kv = kv;
    copy.point();
    return copy;
}

void State::reserve(std::size_t count) {
    for (MambaState& m : mamba) {
        const std::size_t inputs = layout_->conv_floats() + count * layout_->config.conv_dim();
        if (m.conv.size() < inputs) m.conv.resize(inputs);
        if (m.dt.size() < count * layout_->config.mamba_heads) m.dt.resize(count * layout_->config.mamba_heads);
    }
    kv.reserve(length, length + count);
    reserve_replay();
}

void State::settle() {
    if (pending > 0) keep(pending);
}

void State::reserve_replay() {
    if (!next_ || next_.use_count() > 1) next_ = memory_->ssm.take();
    point();
}

void State::keep(std::size_t n) {
    if (n > 0) {
        ssm_ = std::move(next_);
        const std::size_t gone = n * layout_->config.conv_dim();
        for (MambaState& m : mamba) {
            std::memmove(m.conv.data(), m.conv.data() + gone, layout_->conv_floats() * sizeof(float));
        }
    }
    next_.reset();
    length += n;
    pending = 0;
    point();
}

void State::forget_long() {
    before_long.reset();
    long_tokens.clear();
}

void State::point() {
    const std::size_t size = layout_->config.state_floats();
    for (std::size_t i = 0; i < mamba.size(); ++i) {
        mamba[i].ssm = reinterpret_cast<const float*>(ssm_.get()) + i * size;
        mamba[i].ssm_next = next_ ? reinterpret_cast<float*>(next_.get()) + i * size : nullptr;
    }
}

}  // namespace nano
