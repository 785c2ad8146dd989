// The low-rank term L·R of a matrix, its factors of 16, 8 or 4 bits, with everything about them checked.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "inputs.h"
#include "table.h"
#include "tensor.h"

namespace leanto {

inline size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// An array read in place, or a copy of it where it was not aligned.
template <class T> class Aligned {
  public:
    Aligned() = default;
    Aligned(const void* data, size_t size) : data_(static_cast<const T*>(data)) {
        if (reinterpret_cast<uintptr_t>(data) % alignof(T) == 0) return;
        copy_.reset(new T[size]);
        std::memcpy(copy_.get(), data, size * sizeof(T));
        data_ = copy_.get();
    }
    const T* get() const { return data_; }

  private:
    std::unique_ptr<T[]> copy_;
    const T* data_ = nullptr;
};

// Codes for `rows` (a multiple of kRowGroup) times `columns` (padded here) under two names, or std::invalid_argument.
TrellisCodes read_codes(const Parts& parts, const std::pair<std::string, std::string>& codes_and_tables, const std::string& kind,
                        int64_t bits, size_t rows, size_t columns);

class LowRank {
  public:
    LowRank() = default;
    LowRank(const Parts& parts, const std::string& module, const MatrixForm& form);  // throws std::invalid_argument

    size_t rank() const { return rank_; }
    // Elements first..last of what `expand` takes, into low_rank (tokens, rank): R x', times the scales of L. first: a multiple of 8.
    void reduce(const Inputs& x, size_t first, size_t last, float* low_rank) const;
    // Adds rows first..last of L R x' to y (tokens, rows); first is a multiple of 32.
    void expand(const float* low_rank, size_t tokens, size_t first, size_t last, float* y) const;
    // Adds one row of L R to y (columns,); `tile` as for products.
    void add_row(size_t row, int8_t* tile, float* y) const;

  private:
    const int8_t* read_left(const Parts& parts, const std::string& module);
    void read_right(const Parts& parts, const std::string& module);
    float left_value(size_t row, size_t k) const;

    size_t rank_ = 0, rows_ = 0, columns_ = 0, padded_rows_ = 0, padded_columns_ = 0;
    int64_t bits_ = 16;
    Aligned<uint16_t> half_left_, half_right_;             // (rows, rank), (rank, columns)
    const int8_t *left_ = nullptr, *right_ = nullptr;      // (rank, padded rows), (rank, padded columns) of 8 bits
    TrellisCodes right_codes_{};                           // of 4 bits
    std::vector<int8_t> decoded_left_;                     // what left_ points at, of 4 bits
    std::vector<float> left_scales_, right_scales_;        // (rank,)
};

}  // namespace leanto
