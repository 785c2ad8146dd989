// Checks a matrix's parts once, then multiplies rows and reads embeddings without further checks.
#include "matrix.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "half.h"

namespace leanto {
namespace {

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

Kind kind_of(const MatrixForm& form, const std::string& module) {
    if (form.kind == "dense") return Kind::dense;
    if (form.kind == "int8") return Kind::int8;
    if (form.kind == "trellis") return Kind::trellis;
    throw std::invalid_argument("matrix " + module + " is of unknown kind '" + form.kind + "': dense, int8 or trellis");
}

const int8_t* checked_tables(const Parts& parts, const std::string& name) {
    const auto* tables = static_cast<const int8_t*>(parts.data(name, Type::int8, {2, 16}));
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j)
            if (std::abs(tables[i] + tables[16 + j]) > 127) throw std::invalid_argument("tensor " + name + " has sums beyond 127");
    return tables;
}

}  // namespace

const Rotation* Rotations::get(size_t dimension, uint64_t seed) {
    if (seed == 0) return nullptr;
    auto& rotation = made_[{dimension, seed}];
    if (!rotation) rotation = std::make_unique<Rotation>(dimension, seed);
    return rotation.get();
}

template <class T> const T* Matrix::aligned(const void* data, size_t size) {
    if (reinterpret_cast<uintptr_t>(data) % alignof(T) == 0) return static_cast<const T*>(data);
    auto& copy = copies_.emplace_back(new char[size * sizeof(T)]);
    std::memcpy(copy.get(), data, size * sizeof(T));
    return reinterpret_cast<const T*>(copy.get());
}

Matrix::Matrix(const Parts& parts, const std::string& module, size_t wanted_rows, size_t wanted_columns, Rotations& rotations)
    : name(module), rows(wanted_rows), columns(wanted_columns) {
    const MatrixForm& form = parts.form(module);
    kind = kind_of(form, module);
    const auto m = static_cast<int64_t>(rows), n = static_cast<int64_t>(columns);
    if (form.rows != m || form.columns != n)
        throw std::invalid_argument("matrix " + module + " is declared " + std::to_string(form.rows) + " × " +
                                    std::to_string(form.columns) + ", expected " + std::to_string(m) + " × " + std::to_string(n));
    if (form.rank < 0 || form.rank > std::min(m, n)) throw std::invalid_argument("matrix " + module + " has an impossible rank");
    padded_rows = round_up(rows, kRowGroup);
    padded_columns = round_up(columns, kColumnLanes);
    rank = static_cast<size_t>(form.rank);

    const auto padded_m = static_cast<int64_t>(padded_rows), padded_n = static_cast<int64_t>(padded_columns);
    if (kind == Kind::dense) {
        dense_ = aligned<float>(parts.data(module + ".weight", Type::float32, {m, n}), rows * columns);
    } else {
        if (columns > kMostColumns)
            throw std::invalid_argument("matrix " + module + " has over " + std::to_string(kMostColumns) + " columns of codes");
        scales_ = parts.floats(module + ".scales", m);
        scales_.resize(padded_rows);
    }
    if (kind == Kind::int8) int8_ = static_cast<const int8_t*>(parts.data(module + ".codes", Type::int8, {m, padded_n}));
    if (kind == Kind::trellis) {
        if (form.bits < 1 || form.bits > 4) throw std::invalid_argument("matrix " + module + " has bits outside 1..4");
        const auto* codes = parts.data(module + ".codes", Type::uint8, {padded_m * form.bits / 8, padded_n});
        trellis_ = {static_cast<const uint8_t*>(codes), checked_tables(parts, module + ".tables"), static_cast<int>(form.bits), padded_rows,
                    padded_columns};
    }
    if (rank > 0) {
        left_ = aligned<uint16_t>(parts.data(module + ".left", Type::float16, {m, form.rank}), rows * rank);
        right_ = aligned<uint16_t>(parts.data(module + ".right", Type::float16, {form.rank, n}), rank * columns);
    }
    in_seed = form.in_seed;
    in = rotations.get(columns, form.in_seed);
    out = rotations.get(rows, form.out_seed);
}

void Matrix::multiply_rows(const Inputs& x, const float* low_rank, size_t first, size_t last, int8_t* tile, float* y) const {
    const Kernels& k = kernels();
    if (kind == Kind::dense) {
        k.dense_product(dense_, columns, x.x, x.tokens, first, last, y + first, rows);
    } else {
        int32_t sums[kMaxTokens * kChunkRows];
        if (kind == Kind::int8) k.int8_product(int8_, padded_columns, x.codes, x.tokens, first, last, sums, kChunkRows);
        else k.trellis_product(trellis_, x.codes, x.tokens, first, round_up(last, kRowGroup), tile, sums, kChunkRows);
        for (size_t t = 0; t < x.tokens; ++t)
            for (size_t row = first; row < last; ++row)
                y[t * rows + row] = static_cast<float>(sums[t * kChunkRows + row - first]) * (x.scales[t] * scales_[row]);
    }
    if (rank > 0) k.half_product(left_, rank, low_rank, x.tokens, first, last, y + first, rows, true);
}

void Matrix::reduce_rank(const Inputs& x, size_t first, size_t last, float* low_rank) const {
    kernels().half_product(right_, columns, x.x, x.tokens, first, last, low_rank + first, rank, false);
}

void Matrix::read_row(size_t row, int8_t* tile, float* scratch, float* y) const {
    const Kernels& k = kernels();
    if (kind == Kind::dense) {
        std::copy_n(dense_ + row * columns, columns, y);
    } else {
        const int8_t* codes = int8_ + row * padded_columns;
        if (kind == Kind::trellis) {
            const size_t group = row / kRowGroup * kRowGroup;
            k.trellis_decode(trellis_, group, group + kRowGroup, tile);
            codes = tile + (row - group) * padded_columns;
        }
        for (size_t j = 0; j < columns; ++j) y[j] = static_cast<float>(codes[j]) * scales_[row];
    }
    for (size_t r = 0; r < rank; ++r) {
        const float factor = half_to_float(left_[row * rank + r]);
        for (size_t j = 0; j < columns; ++j) y[j] += factor * half_to_float(right_[r * columns + j]);
    }
    if (in) k.rotate_transpose(*in, y, y, scratch);
}

}  // namespace leanto
