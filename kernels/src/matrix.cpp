// Checks a matrix's parts once, then multiplies rows and reads embeddings without further checks.
#include "matrix.h"

#include <algorithm>
#include <stdexcept>

#include "coding.h"

namespace leanto {
namespace {

Kind kind_of(const MatrixForm& form, const std::string& module) {
    if (form.kind == "dense") return Kind::dense;
    if (form.kind == "int8") return Kind::int8;
    if (form.kind == "trellis" || form.kind == "additive" || form.kind == "scalar") return Kind::coded;
    throw std::invalid_argument("matrix " + module + " is of unknown kind '" + form.kind + "': dense, int8, trellis, additive or scalar");
}

}  // namespace

const Rotation* Rotations::get(size_t dimension, uint64_t seed) {
    if (seed == 0) return nullptr;
    auto& rotation = made_[{dimension, seed}];
    if (!rotation) rotation = std::make_unique<Rotation>(dimension, seed);
    return rotation.get();
}

Matrix::Matrix(const Parts& parts, const std::string& module, size_t wanted_rows, size_t wanted_columns, Rotations& rotations)
    : name(module), rows(wanted_rows), columns(wanted_columns) {
    const MatrixForm& form = parts.form(module);
    kind = kind_of(form, module);
    const auto m = static_cast<int64_t>(rows), n = static_cast<int64_t>(columns);
    if (form.rows != m || form.columns != n)
        throw std::invalid_argument("matrix " + module + " is declared " + std::to_string(form.rows) + " × " +
                                    std::to_string(form.columns) + ", expected " + std::to_string(m) + " × " + std::to_string(n));
    padded_rows = round_up(rows, kRowGroup);
    padded_columns = round_up(columns, kColumnLanes);

    const auto padded_n = static_cast<int64_t>(padded_columns);
    if (kind == Kind::dense) {
        dense_ = {parts.data(module + ".weight", Type::float32, {m, n}), rows * columns};
    } else {
        if (columns > kMostColumns)
            throw std::invalid_argument("matrix " + module + " has over " + std::to_string(kMostColumns) + " columns of codes");
        scales_ = parts.floats(module + ".scales", m);
        scales_.resize(padded_rows);
    }
    if (kind == Kind::int8) int8_ = static_cast<const int8_t*>(parts.data(module + ".codes", Type::int8, {m, padded_n}));
    if (kind == Kind::coded) coded_ = read_codes(parts, {module + ".codes", module + ".tables"}, form.kind, form.bits, padded_rows, columns);
    factors_ = LowRank(parts, module, form);
    rank = factors_.rank();
    in_seed = form.in_seed;
    in = rotations.get(columns, form.in_seed);
    out = rotations.get(rows, form.out_seed);
}

void Matrix::multiply_rows(const Inputs& x, const float* low_rank, size_t first, size_t last, int8_t* tile, float* y) const {
    const Kernels& k = kernels();
    if (kind == Kind::dense) {
        k.dense_product(dense_.get(), columns, x.x, x.tokens, first, last, y + first, rows);
    } else {
        int32_t sums[kMaxTokens * kChunkRows];
        if (kind == Kind::int8) k.int8_product(int8_, padded_columns, x.codes, x.tokens, first, last, sums, kChunkRows);
        else k.trellis_product(coded_, x.codes, x.tokens, first, round_up(last, kRowGroup), tile, sums, kChunkRows);
        for (size_t t = 0; t < x.tokens; ++t)
            for (size_t row = first; row < last; ++row)
                y[t * rows + row] = static_cast<float>(sums[t * kChunkRows + row - first]) * (x.scales[t] * scales_[row]);
    }
    if (rank > 0) factors_.expand(low_rank, x.tokens, first, last, y);
}

void Matrix::read_row(size_t row, int8_t* tile, float* scratch, float* y) const {
    const Kernels& k = kernels();
    if (kind == Kind::dense) {
        std::copy_n(dense_.get() + row * columns, columns, y);
    } else {
        const int8_t* codes = int8_ + row * padded_columns;
        if (kind == Kind::coded) {
            const size_t group = row / kRowGroup * kRowGroup;
            k.trellis_decode(coded_, group, group + kRowGroup, tile);
            codes = tile + (row - group) * padded_columns;
        }
        for (size_t j = 0; j < columns; ++j) y[j] = static_cast<float>(codes[j]) * scales_[row];
    }
    if (rank > 0) factors_.add_row(row, tile, y);
    if (in) k.rotate_transpose(*in, y, y, scratch);
}

}  // namespace leanto
