// What a model is made of, as its loader found it: named tensors and the declared form of each matrix. Nothing here is trusted yet.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace leanto {

enum class Type { float32, float16, int8, uint8, other };

struct Tensor {
    const void* data;
    Type type;
    std::vector<int64_t> shape;
};

struct MatrixForm {
    std::string kind;  // "trellis", "additive", "scalar", "int8" or "dense"
    int64_t bits = 0, rows = 0, columns = 0, rank = 0, factor_bits = 16;
    uint64_t in_seed = 0, out_seed = 0;  // 0: that side is not rotated
};

// The parts of a model by name. The look-ups throw std::invalid_argument with the name in the message.
struct Parts {
    std::map<std::string, Tensor> tensors;
    std::map<std::string, MatrixForm> matrices;

    const MatrixForm& form(const std::string& module) const;
    const void* data(const std::string& name, Type type, const std::vector<int64_t>& shape) const;
    std::vector<float> floats(const std::string& name, int64_t size) const;  // from float32 or float16
};

}  // namespace leanto
