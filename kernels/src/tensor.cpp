// Look-ups that trust neither names, types nor shapes.
#include "tensor.h"

#include <cstring>
#include <stdexcept>

#include "half.h"

namespace leanto {
namespace {

const char* type_name(Type type) {
    switch (type) {
        case Type::float32: return "float32";
        case Type::float16: return "float16";
        case Type::int8: return "int8";
        case Type::uint8: return "uint8";
        default: return "another type";
    }
}

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + ")";
}

const Tensor& find(const Parts& parts, const std::string& name) {
    const auto found = parts.tensors.find(name);
    if (found == parts.tensors.end()) throw std::invalid_argument("tensor " + name + " is missing");
    return found->second;
}

void demand(const std::string& name, const Tensor& tensor, Type type, const std::vector<int64_t>& shape) {
    if (tensor.type != type || tensor.shape != shape)
        throw std::invalid_argument("tensor " + name + " is " + type_name(tensor.type) + " " + shape_text(tensor.shape) + ", expected " +
                                    type_name(type) + " " + shape_text(shape));
}

}  // namespace

const MatrixForm& Parts::form(const std::string& module) const {
    const auto found = matrices.find(module);
    if (found == matrices.end()) throw std::invalid_argument("matrix " + module + " is not declared");
    return found->second;
}

const void* Parts::data(const std::string& name, Type type, const std::vector<int64_t>& shape) const {
    const Tensor& tensor = find(*this, name);
    demand(name, tensor, type, shape);
    return tensor.data;
}

std::vector<float> Parts::floats(const std::string& name, int64_t size) const {
    const Tensor& tensor = find(*this, name);
    const bool half = tensor.type == Type::float16;
    demand(name, tensor, half ? Type::float16 : Type::float32, {size});
    std::vector<float> values(static_cast<size_t>(size));
    if (!half) {
        std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
        return values;
    }
    for (size_t i = 0; i < values.size(); ++i) {
        uint16_t bits;
        std::memcpy(&bits, static_cast<const char*>(tensor.data) + 2 * i, sizeof bits);
        values[i] = half_to_float(bits);
    }
    return values;
}

}  // namespace leanto
