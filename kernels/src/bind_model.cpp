// The model as Python sees it. Keeps the arrays it was given alive; releases the GIL for every pass.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "arrays.h"
#include "bindings.h"
#include "model.h"
#include "samples.h"

namespace leanto {
namespace {

using namespace nb::literals;

constexpr size_t kMostHeadDim = 1 << 16;  // bounds the tables that are made before the config is checked as a whole

template <class T> T item(const nb::dict& dict, const char* key, const std::string& where) {
    demand(dict.contains(key), where + ": " + key + " is missing");
    T value;
    demand(nb::try_cast<T>(dict[key], value), where + ": " + key + " has the wrong type");
    return value;
}

template <class T> T item_or(const nb::dict& dict, const char* key, const std::string& where, T otherwise) {
    return dict.contains(key) ? item<T>(dict, key, where) : otherwise;
}

float number(const nb::dict& dict, const char* key) { return static_cast<float>(item<double>(dict, key, "config")); }
float number_or(const nb::dict& dict, const char* key, float otherwise) { return dict.contains(key) ? number(dict, key) : otherwise; }
bool flag(const nb::dict& dict, const char* key) { return item_or(dict, key, "config", false); }

Rope read_rope(const nb::dict& dict) {
    return {
        .frequencies = item<std::vector<float>>(dict, "frequencies", "rope"),
        .long_frequencies = item_or<std::vector<float>>(dict, "long_frequencies", "rope", {}),
        .original_length = item_or<size_t>(dict, "original_length", "rope", 0),
        .scale = item_or(dict, "scale", "rope", 1.0f),
    };
}

// RoFormer's table: of whole heads, to the base rope_theta.
Rope plain_rope(float theta, size_t head_dim) {
    demand(theta > 0.0f && std::isfinite(theta), "config: rope_theta must be positive");
    demand(head_dim <= kMostHeadDim, "config: head_dim is too large");
    Rope rope;
    for (size_t i = 0; i < head_dim / 2; ++i)
        rope.frequencies.push_back(static_cast<float>(1.0 / std::pow(static_cast<double>(theta), 2.0 * i / head_dim)));
    return rope;
}

std::vector<Rope> read_ropes(const nb::dict& dict, size_t head_dim) {
    if (!dict.contains("ropes")) return {plain_rope(number(dict, "rope_theta"), head_dim)};
    std::vector<Rope> ropes;
    for (const nb::dict& rope : item<std::vector<nb::dict>>(dict, "ropes", "config")) ropes.push_back(read_rope(rope));
    return ropes;
}

Activation read_activation(const nb::dict& dict) {
    const auto name = item_or<std::string>(dict, "activation", "config", "silu");
    demand(name == "silu" || name == "gelu", "config: activation must be silu or gelu");
    return name == "gelu" ? Activation::gelu : Activation::silu;
}

ModelConfig read_config(const nb::dict& dict) {
    const auto size = [&](const char* key) {
        const auto value = item<int64_t>(dict, key, "config");
        demand(value > 0, std::string("config: ") + key + " must be positive");
        return static_cast<size_t>(value);
    };
    const size_t head_dim = size("head_dim");
    return {
        .hidden_size = size("hidden_size"),
        .intermediate_size = size("intermediate_size"),
        .num_layers = size("num_layers"),
        .num_heads = size("num_heads"),
        .num_kv_heads = size("num_kv_heads"),
        .head_dim = head_dim,
        .vocab_size = size("vocab_size"),
        .rms_norm_eps = number(dict, "rms_norm_eps"),
        .tie_embeddings = item<bool>(dict, "tie_embeddings", "config"),
        .attention_scale = number_or(dict, "attention_scale", 1.0f / std::sqrt(static_cast<float>(head_dim))),
        .ropes = read_ropes(dict, head_dim),
        .layer_ropes = item_or<std::vector<int64_t>>(dict, "layer_ropes", "config", {}),
        .layer_windows = item_or<std::vector<int64_t>>(dict, "layer_windows", "config", {}),
        .fused_projections = flag(dict, "fused_projections"),
        .qkv_bias = flag(dict, "qkv_bias"),
        .output_bias = flag(dict, "output_bias"),
        .mlp_bias = flag(dict, "mlp_bias"),
        .head_norms = flag(dict, "head_norms"),
        .sandwich_norms = flag(dict, "sandwich_norms"),
        .norm_offset = number_or(dict, "norm_offset", 0.0f),
        .activation = read_activation(dict),
        .attention_softcap = number_or(dict, "attention_softcap", 0.0f),
        .logit_softcap = number_or(dict, "logit_softcap", 0.0f),
        .embedding_scale = number_or(dict, "embedding_scale", 1.0f),
    };
}

MatrixForm read_form(const nb::dict& dict, const std::string& module) {
    const std::string where = "matrix " + module;
    MatrixForm form;
    form.kind = item<std::string>(dict, "kind", where);
    form.rows = item<int64_t>(dict, "rows", where);
    form.columns = item<int64_t>(dict, "cols", where);
    if (form.kind != "int8" && form.kind != "dense") form.bits = item<int64_t>(dict, "bits", where);
    if (dict.contains("rank")) form.rank = item<int64_t>(dict, "rank", where);
    if (dict.contains("factor_bits")) form.factor_bits = item<int64_t>(dict, "factor_bits", where);
    if (dict.contains("in_seed")) form.in_seed = item<uint64_t>(dict, "in_seed", where);
    if (dict.contains("out_seed")) form.out_seed = item<uint64_t>(dict, "out_seed", where);
    return form;
}

Type type_of(const AnyArray& array) {
    if (array.dtype() == nb::dtype<float>()) return Type::float32;
    if (array.dtype() == nb::dlpack::dtype{static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1}) return Type::float16;
    if (array.dtype() == nb::dtype<int8_t>()) return Type::int8;
    if (array.dtype() == nb::dtype<uint8_t>()) return Type::uint8;
    return Type::other;
}

Tensor read_tensor(const AnyArray& array, const std::string& name) {
    Tensor tensor{array.data(), type_of(array), {}};
    int64_t stride = 1;
    for (size_t i = array.ndim(); i-- > 0; stride *= static_cast<int64_t>(array.shape(i)))
        demand(array.shape(i) <= 1 || array.stride(i) == stride, "tensor " + name + " is not contiguous");
    for (size_t i = 0; i < array.ndim(); ++i) tensor.shape.push_back(static_cast<int64_t>(array.shape(i)));
    return tensor;
}

// A model and the arrays whose memory it reads.
class BoundModel {
  public:
    BoundModel(const BoundModel&) = delete;
    BoundModel(const nb::dict& config, const nb::dict& matrices, const nb::dict& tensors)
        : parts_(read_parts(matrices, tensors)), model(read_config(config), parts_) {
        parts_ = {};
    }

  private:
    Parts read_parts(const nb::dict& matrices, const nb::dict& tensors) {
        Parts parts;
        for (const auto [key, value] : matrices) {
            std::string module;
            nb::dict form;
            demand(nb::try_cast(key, module) && nb::try_cast(value, form), "matrices must map names to dictionaries");
            parts.matrices.emplace(module, read_form(form, module));
        }
        for (const auto [key, value] : tensors) {
            std::string name;
            AnyArray array;
            demand(nb::try_cast(key, name), "tensors must map names to arrays");
            demand(nb::try_cast(value, array), "tensor " + name + " is not an array in memory");
            parts.tensors.emplace(name, read_tensor(array, name));
            arrays_.push_back(std::move(array));
        }
        return parts;
    }

    std::vector<AnyArray> arrays_;
    Parts parts_;

  public:
    Model model;
};

std::unique_ptr<Cache> new_cache(const BoundModel& bound, int64_t capacity, const std::string& storage) {
    demand(capacity > 0, "a cache needs a capacity of at least one token");
    return bound.model.new_cache(static_cast<size_t>(capacity), storage_of(storage));
}

std::span<const int32_t> as_ids(const Array<int32_t>& ids) {
    demand(ids.ndim() == 1, "ids must be a vector");
    return {ids.data(), ids.shape(0)};
}

NewArray<float> prefill(const BoundModel& bound, Cache& cache, const Array<int32_t>& ids, int threads) {
    const auto tokens = as_ids(ids);
    auto out = new_array<float>({bound.model.config().vocab_size});
    const nb::gil_scoped_release release;
    bound.model.prefill(cache, tokens, threads, out.data());
    return out;
}

NewArray<float> logits(const BoundModel& bound, Cache& cache, const Array<int32_t>& ids, int threads) {
    const auto tokens = as_ids(ids);
    demand(tokens.size() <= cache.capacity(), std::to_string(tokens.size()) + " tokens do not fit the cache");
    auto out = new_array<float>({tokens.size(), bound.model.config().vocab_size});
    const nb::gil_scoped_release release;
    bound.model.logits(cache, tokens, threads, out.data());
    return out;
}

std::vector<SampleTuple> steps(const BoundModel& bound, Cache& cache, const Array<int32_t>& ids, const Array<double>& us, double temperature,
                               double top_p, int64_t top_k, const std::optional<Array<int32_t>>& allowed, int threads, size_t top) {
    const auto tokens = as_ids(ids);
    demand(us.ndim() == 1, "us must be a vector");
    Allowed permitted;
    if (allowed) permitted = as_ids(*allowed);
    std::vector<Sample> samples;
    {
        const nb::gil_scoped_release release;
        samples = bound.model.steps(cache, tokens, {temperature, top_p, top_k, 0.0}, {us.data(), us.shape(0)}, permitted, top, threads);
    }
    std::vector<SampleTuple> tuples;
    for (const Sample& each : samples) tuples.push_back(as_tuple(each));
    return tuples;
}

SampleTuple step(const BoundModel& bound, Cache& cache, int64_t token, double temperature, double top_p, int64_t top_k, double u,
                 const std::optional<Array<int32_t>>& allowed, int threads, size_t top) {
    demand(token >= 0 && token <= INT32_MAX, "token id " + std::to_string(token) + " is outside the vocabulary");
    const auto id = static_cast<int32_t>(token);
    Allowed permitted;
    if (allowed) permitted = as_ids(*allowed);
    std::vector<Sample> samples;
    {
        const nb::gil_scoped_release release;
        samples = bound.model.steps(cache, {&id, 1}, {temperature, top_p, top_k, 0.0}, {&u, 1}, permitted, top, threads);
    }
    return as_tuple(samples.front());
}

}  // namespace
}  // namespace leanto

void bind_model(nanobind::module_& module) {
    using namespace leanto;
    nb::class_<Cache>(module, "Cache", "Keys and values of the tokens seen so far; made by Model.new_cache, for one call at a time.")
        .def_prop_ro("length", &Cache::length, "Tokens held.")
        .def_prop_ro("capacity", &Cache::capacity, "The most tokens it can hold.")
        .def_prop_ro("bytes_per_token", &Cache::bytes_per_token, "Bytes that one token takes.")
        .def(
            "truncate",
            [](Cache& cache, int64_t length) {
                demand(length >= 0, "a cache cannot be cut below 0 tokens");
                const nb::gil_scoped_release release;
                cache.truncate(static_cast<size_t>(length));
            },
            "length"_a, "Forget all but the first `length` tokens.")
        .def(
            "state",
            [](Cache& cache) {
                const std::vector<float> state = cache.state();
                auto out = new_array<float>({state.size()});
                std::copy(state.begin(), state.end(), out.data());
                return out;
            },
            "The hidden state (hidden_size,) float32, after the final norm, that the last logits were made of. Raises ValueError without any.");
    nb::class_<BoundModel>(module, "Model", "A decoder over compressed weights. Safe to share between threads.")
        .def(nb::init<const nb::dict&, const nb::dict&, const nb::dict&>(), "config"_a, "matrices"_a, "tensors"_a,
             "config: sizes and constants, and what differs from a plain Llama; matrices: the form of each matrix by its Hugging Face\n"
             "module name; tensors: arrays by name, read in place and kept alive. Raises ValueError, naming the part that does not fit.")
        .def("new_cache", &new_cache, "capacity"_a, "storage"_a = "float16", nb::keep_alive<0, 1>(),
             "An empty cache for up to `capacity` tokens that keeps them as float32, float16 or int8 (with a scale for each vector).")
        .def("prefill", &prefill, "cache"_a, "ids"_a.noconvert(), "threads"_a = 1,
             "Append ids (n,) int32; returns the logits after the last, (vocab_size,) float32.")
        .def("logits", &logits, "cache"_a, "ids"_a.noconvert(), "threads"_a = 1,
             "Append ids (n,) int32; returns the logits after each, (n, vocab_size) float32.")
        .def("step", &step, "cache"_a, "token"_a, "temperature"_a = 0.0, "top_p"_a = 1.0, "top_k"_a = 0, "u"_a = 0.0,
             "allowed"_a.noconvert() = nb::none(), "threads"_a = 1, "top"_a = 0,
             "Append `token` and sample the next: (token, logprob, margin, entropy, top), as `sample` would from these logits.")
        .def("steps", &steps, "cache"_a, "ids"_a.noconvert(), "us"_a.noconvert(), "temperature"_a = 0.0, "top_p"_a = 1.0, "top_k"_a = 0,
             "allowed"_a.noconvert() = nb::none(), "threads"_a = 1, "top"_a = 0,
             "Append ids (n,) int32 and sample after each of the last len(us), with us (k,) float64: what `step` would return one by one,\n"
             "up to the first sample that is not the id which follows; the ids from there on are not appended.");
}
