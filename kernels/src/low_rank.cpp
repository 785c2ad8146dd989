// Checks the factors once, then multiplies without further checks. 4-bit codes of L are decoded at load: it is small and read whole.
#include "low_rank.h"

#include <algorithm>
#include <stdexcept>

#include "coding.h"
#include "half.h"

namespace leanto {
namespace {

constexpr int64_t kFactorBits = 4;

const int8_t* int8_rows(const Parts& parts, const std::string& name, size_t rows, size_t columns) {
    const auto* data = static_cast<const int8_t*>(parts.data(name, Type::int8, {static_cast<int64_t>(rows), static_cast<int64_t>(columns)}));
    if (std::find(data, data + rows * columns, int8_t{-128}) != data + rows * columns)
        throw std::invalid_argument("tensor " + name + " holds -128");
    return data;
}

}  // namespace

TrellisCodes read_codes(const Parts& parts, const std::pair<std::string, std::string>& codes_and_tables, const std::string& kind,
                        int64_t bits, size_t rows, size_t columns) {
    const auto& [codes, tables] = codes_and_tables;
    if (bits < 1 || bits > 4) throw std::invalid_argument("tensor " + codes + " has bits outside 1..4");
    const Coding coding = coding_of(kind);
    const size_t padded = round_up(columns, kColumnLanes);
    const auto bytes = static_cast<int64_t>(rows) * bits / 8;
    const void* data = parts.data(codes, Type::uint8, {bytes, static_cast<int64_t>(padded)});
    const auto* entries = static_cast<const int8_t*>(parts.data(tables, Type::int8, {2, 16}));
    check_tables(entries, coding, "tensor " + tables);
    return {static_cast<const uint8_t*>(data), entries, coding, static_cast<int>(bits), rows, padded};
}

LowRank::LowRank(const Parts& parts, const std::string& module, const MatrixForm& form)
    : rows_(static_cast<size_t>(form.rows)), columns_(static_cast<size_t>(form.columns)), bits_(form.factor_bits) {
    if (form.rank < 0 || form.rank > std::min(form.rows, form.columns))
        throw std::invalid_argument("matrix " + module + " has an impossible rank");
    if (bits_ != 4 && bits_ != 8 && bits_ != 16) throw std::invalid_argument("matrix " + module + " has factor_bits other than 4, 8, 16");
    if (form.rank == 0) return;
    if (bits_ == kFactorBits && form.rank % static_cast<int64_t>(kRowGroup) != 0)
        throw std::invalid_argument("matrix " + module + " has factors of 4 bits and a rank that is no multiple of 8");
    if (bits_ != 16 && form.kind == "dense") throw std::invalid_argument("matrix " + module + " is dense and has rounded factors");
    rank_ = static_cast<size_t>(form.rank);
    padded_rows_ = round_up(rows_, kColumnLanes);
    padded_columns_ = round_up(columns_, kColumnLanes);
    if (bits_ == 16) {
        half_left_ = {parts.data(module + ".left", Type::float16, {form.rows, form.rank}), rows_ * rank_};
        half_right_ = {parts.data(module + ".right", Type::float16, {form.rank, form.columns}), rank_ * columns_};
        return;
    }
    left_scales_ = parts.floats(module + ".left_scales", form.rank);
    right_scales_ = parts.floats(module + ".right_scales", form.rank);
    left_ = read_left(parts, module);
    read_right(parts, module);
}

const int8_t* LowRank::read_left(const Parts& parts, const std::string& module) {
    if (bits_ == 8) return int8_rows(parts, module + ".left", rank_, padded_rows_);
    const TrellisCodes codes = read_codes(parts, {module + ".left", module + ".factor_tables"}, "trellis", kFactorBits, rank_, rows_);
    decoded_left_.resize(rank_ * padded_rows_);
    kernels().trellis_decode(codes, 0, rank_, decoded_left_.data());
    return decoded_left_.data();
}

void LowRank::read_right(const Parts& parts, const std::string& module) {
    if (bits_ == 8) right_ = int8_rows(parts, module + ".right", rank_, padded_columns_);
    else right_codes_ = read_codes(parts, {module + ".right", module + ".factor_tables"}, "trellis", kFactorBits, rank_, columns_);
}

void LowRank::reduce(const Inputs& x, size_t first, size_t last, float* low_rank) const {
    const Kernels& k = kernels();
    if (bits_ == 16) return k.half_product(half_right_.get(), columns_, x.x, x.tokens, first, last, low_rank + first, rank_, false);
    for (size_t t = 0; t < x.tokens; ++t) {  // token by token: a tile for all would be as large as R
        int32_t sums[kChunkRanks];
        const int8_t* codes = x.codes + t * padded_columns_;
        if (bits_ == 8) k.int8_product(right_, padded_columns_, codes, 1, first, last, sums, 0);
        else k.trellis_product(right_codes_, codes, 1, first, last, nullptr, sums, 0);
        for (size_t r = first; r < last; ++r)
            low_rank[t * rank_ + r] = static_cast<float>(sums[r - first]) * (x.scales[t] * right_scales_[r]) * left_scales_[r];
    }
}

void LowRank::expand(const float* low_rank, size_t tokens, size_t first, size_t last, float* y) const {
    const Kernels& k = kernels();
    if (bits_ == 16) k.half_product(half_left_.get(), rank_, low_rank, tokens, first, last, y + first, rows_, true);
    else k.transposed_product(left_, rank_, padded_rows_, low_rank, tokens, first, last, y + first, rows_);
}

float LowRank::left_value(size_t row, size_t k) const {
    if (bits_ == 16) return half_to_float(half_left_.get()[row * rank_ + k]);
    return static_cast<float>(left_[k * padded_rows_ + row]) * left_scales_[k];
}

void LowRank::add_row(size_t row, int8_t* tile, float* y) const {
    for (size_t k = 0; k < rank_; ++k) {
        const float factor = left_value(row, k);
        if (bits_ == 16) {
            for (size_t j = 0; j < columns_; ++j) y[j] += factor * half_to_float(half_right_.get()[k * columns_ + j]);
            continue;
        }
        if (bits_ == kFactorBits && k % kRowGroup == 0) kernels().trellis_decode(right_codes_, k, k + kRowGroup, tile);
        const int8_t* codes = bits_ == 8 ? right_ + k * padded_columns_ : tile + k % kRowGroup * padded_columns_;
        const float scale = factor * right_scales_[k];
        for (size_t j = 0; j < columns_; ++j) y[j] += scale * static_cast<float>(codes[j]);
    }
}

}  // namespace leanto
