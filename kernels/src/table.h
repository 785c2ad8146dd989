// One public symbol for each kernel: a table of functions, filled once per instruction set, chosen at run time by isa.cpp.
// All arrays are row-major. Kernels never allocate, never throw and know nothing of threads: callers give them a range of rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace leanto {

constexpr size_t kColumnLanes = 32;  // columns are padded to this
template <size_t Columns> struct Width {};  // of a strip of columns that one vector holds
constexpr size_t kRowGroup = 8;      // rows of a trellis matrix are padded to this
constexpr size_t kMostColumns = 1 << 17;  // of int8 codes: 2^17 · 127 · 127 still fits an int32 sum
constexpr size_t kBlockRows = 256;   // a tail-biting block of the trellis
constexpr int kTrellisWindow = 12, kAdditiveWindow = 8;  // bits that a weight looks at; scalar codes look at their own

// How a weight comes from its bits; see docs/format.md.
enum class Coding { trellis, additive, scalar };

struct TrellisCodes {
    const uint8_t* codes;  // (rows * bits / 8, columns)
    const int8_t* tables;  // (2, 16)
    Coding coding;
    int bits;              // 1..4
    size_t rows, columns;  // padded
};

struct Rotation;

enum class Storage { float32, float16, int8 };  // of keys and values in a cache

// Keys and values of one head by position, (positions, head_dim); of int8 each vector has a scale.
struct HeadCache {
    Storage storage;
    const void *keys, *values;
    const float *key_scales, *value_scales;
};

// One head of one token, (head_dim,), that sees the positions first..last.
struct Query {
    const float* x;
    float* out;
    size_t first, last;
};

struct AttentionForm {
    size_t head_dim;
    float scale, softcap;  // of the products of queries and keys; softcap 0: none
};

constexpr size_t kKeyRun = 64;    // keys that are looked at together
constexpr size_t kQueryRun = 32;  // queries at most that attend together
constexpr size_t attention_scratch(size_t head_dim) { return kKeyRun * (kQueryRun + head_dim); }  // floats

struct Kernels {
    const char* name;

    // y[token * stride + row - first] = sum_j w[row, j] x[token, j] for rows first..last, both multiples of kRowGroup.
    // `tile` is scratch for kRowGroup * columns bytes, used when tokens > 1.
    void (*trellis_product)(const TrellisCodes& w, const int8_t* x, size_t tokens, size_t first, size_t last, int8_t* tile, int32_t* y,
                            size_t stride);
    void (*trellis_decode)(const TrellisCodes& w, size_t first, size_t last, int8_t* out);
    // As trellis_product, for any range of rows.
    void (*int8_product)(const int8_t* w, size_t columns, const int8_t* x, size_t tokens, size_t first, size_t last, int32_t* y,
                         size_t stride);
    // y[token * stride + row - first] for float32 or float16 weights (rows, columns); `add` adds to y.
    void (*dense_product)(const float* w, size_t columns, const float* x, size_t tokens, size_t first, size_t last, float* y,
                          size_t stride);
    void (*half_product)(const uint16_t* w, size_t columns, const float* x, size_t tokens, size_t first, size_t last, float* y,
                         size_t stride, bool add);

    // y[token * stride + row - first] += sum_k w[k, row] x[token, k] for transposed int8 weights w (count, padded); first and padded
    // are multiples of 32.
    void (*transposed_product)(const int8_t* w, size_t count, size_t padded, const float* x, size_t tokens, size_t first, size_t last,
                               float* y, size_t stride);

    // Writes n int8 values and returns their scale; a vector with a value that is not finite gives zeros and a NaN scale.
    float (*quantize)(const float* x, size_t n, int8_t* q);
    void (*rotate)(const Rotation& r, const float* x, float* y, float* scratch);            // y = R x; y may be x
    void (*rotate_transpose)(const Rotation& r, const float* x, float* y, float* scratch);  // y = R^T x; y may be x

    void (*rms_norm)(const float* x, const float* weight, float epsilon, size_t n, float* y);
    void (*rope)(float* x, size_t head_dim, const float* cosine, const float* sine);  // x (head_dim,) in place; tables of head_dim / 2
    void (*gated_silu)(float* gate, const float* up, size_t n);                       // gate = silu(gate) * up
    void (*gated_gelu)(float* gate, const float* up, size_t n);                       // gate = gelu(gate) * up, its tanh approximation
    void (*softcap)(float* x, size_t n, float cap);                                   // x = cap * tanh(x / cap)
    void (*add)(float* y, const float* x, size_t n);
    void (*to_half)(const float* x, size_t n, uint16_t* y);                           // rounded half to even
    // Up to kQueryRun queries, each of which sees at least one position; scratch of attention_scratch(head_dim) floats.
    void (*attend)(const HeadCache& cache, const AttentionForm& form, const Query* queries, size_t count, float* scratch);
    float (*largest)(const float* x, size_t n);  // of at least one
    // total = sum exp(x - max), moment = sum exp(x - max) (x - max).
    void (*softmax_sums)(const float* x, size_t n, float max, double* total, double* moment);
};

const Kernels& portable_kernels();
#ifdef LEANTO_AVX2
const Kernels& avx2_kernels();
#endif
#ifdef LEANTO_AVX512
const Kernels& avx512_kernels();
#endif
#ifdef LEANTO_NEON
const Kernels& neon_kernels();
const Kernels& neon_dotprod_kernels();
#endif

const Kernels& kernels();           // the chosen set; throws std::invalid_argument if LEANTO_ISA names none
bool choose_isa(const char* name);  // false if this machine has no such set
const char* isa_names();            // of this build, best first: "avx512, avx2 or scalar"

}  // namespace leanto
