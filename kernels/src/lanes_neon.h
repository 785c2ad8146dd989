// The vector operations that the kernels are written in, for 64-bit ARM: 16 columns at a time. See lanes_portable.h for what each does.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "table.h"

namespace leanto {
namespace {  // each file that includes it has its own: none may run another's instructions

struct Neon {
    struct Floats {
        float32x4_t low, high;
    };
    using Bytes = uint8x16_t;
    using Ints = int32x4_t;
    using Operand = Bytes;
    using Wide = Neon;
    static constexpr size_t kFloats = 8;
    static constexpr size_t kColumns = 16;
    static constexpr int kTokens = 2;

    static Floats broadcast(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
    static Floats load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
    static Floats load_some(const float* p, size_t n, float fill) {
        float all[8];
        store(all, broadcast(fill));
        std::memcpy(all, p, n * sizeof(float));
        return load(all);
    }
    static Floats load_half(const uint16_t* p) {
        const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(p));
        return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
    }
    static void store_half(uint16_t* p, Floats x) {
        vst1q_u16(p, vreinterpretq_u16_f16(vcombine_f16(vcvt_f16_f32(x.low), vcvt_f16_f32(x.high))));
    }
    static Floats load_int8(const int8_t* p) {
        const int16x8_t words = vmovl_s8(vld1_s8(p));
        return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words))};
    }
    static void store(float* p, Floats x) {
        vst1q_f32(p, x.low);
        vst1q_f32(p + 4, x.high);
    }
    static void store_some(float* p, Floats x, size_t n) {
        float all[8];
        store(all, x);
        std::memcpy(p, all, n * sizeof(float));
    }
    static Floats add(Floats x, Floats y) { return {vaddq_f32(x.low, y.low), vaddq_f32(x.high, y.high)}; }
    static Floats subtract(Floats x, Floats y) { return {vsubq_f32(x.low, y.low), vsubq_f32(x.high, y.high)}; }
    static Floats multiply(Floats x, Floats y) { return {vmulq_f32(x.low, y.low), vmulq_f32(x.high, y.high)}; }
    static Floats divide(Floats x, Floats y) { return {vdivq_f32(x.low, y.low), vdivq_f32(x.high, y.high)}; }
    static Floats multiply_add(Floats x, Floats y, Floats z) {
        return {vfmaq_f32(z.low, x.low, y.low), vfmaq_f32(z.high, x.high, y.high)};
    }
    // Not vmaxq: the second operand is the answer where one is NaN.
    static Floats max(Floats x, Floats y) {
        return {vbslq_f32(vcgtq_f32(x.low, y.low), x.low, y.low), vbslq_f32(vcgtq_f32(x.high, y.high), x.high, y.high)};
    }
    static Floats exp(Floats x) { return {exp_half(x.low), exp_half(x.high)}; }

    static float sum(Floats x) {
        const float32x4_t s = vaddq_f32(x.low, x.high);
        const float32x2_t pair = vadd_f32(vget_low_f32(s), vget_high_f32(s));
        return vget_lane_f32(vpadd_f32(pair, pair), 0);
    }
    static void store_sums(float* y, const Floats (&sums)[4]) {
        float32x4_t s[4];
        for (int i = 0; i < 4; ++i) s[i] = vaddq_f32(sums[i].low, sums[i].high);
        vst1q_f32(y, vpaddq_f32(vpaddq_f32(s[0], s[1]), vpaddq_f32(s[2], s[3])));
    }
    // Each stage parts the even from the odd places; after three the order is the first again.
    static Floats butterfly(Floats x) {
        for (int stage = 0; stage < 3; ++stage) {
            const float32x4_t even = vuzp1q_f32(x.low, x.high), odd = vuzp2q_f32(x.low, x.high);
            x = {vaddq_f32(even, odd), vsubq_f32(even, odd)};
        }
        return x;
    }

    static uint32_t max_magnitude(const float* x, size_t n) {
        uint32x4_t largest = vdupq_n_u32(0);
        for (size_t i = 0; i < n; i += 8) {
            const Floats v = n - i >= 8 ? load(x + i) : load_some(x + i, n - i, 0.0f);
            largest = vmaxq_u32(largest, vmaxq_u32(magnitude_bits(v.low), magnitude_bits(v.high)));
        }
        return vmaxvq_u32(largest);
    }
    static void store_rounded(int8_t* q, Floats x) {
        const int16x4_t low = vmovn_s32(vcvtnq_s32_f32(x.low)), high = vmovn_s32(vcvtnq_s32_f32(x.high));
        vst1_s8(q, vmovn_s16(vcombine_s16(low, high)));
    }

    static void prefetch(const void* p) { __builtin_prefetch(p); }
    static Bytes load_bytes(const void* p, Width<16>) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
    static void store_bytes(void* p, Bytes x, Width<16>) { vst1q_u8(static_cast<uint8_t*>(p), x); }
    static Bytes broadcast16(const int8_t* p) { return vreinterpretq_u8_s8(vld1q_s8(p)); }
    static Bytes look_up(Bytes table, Bytes index) { return vqtbl1q_u8(table, vandq_u8(index, vdupq_n_u8(15))); }
    static Bytes add_bytes(Bytes x, Bytes y) { return vaddq_u8(x, y); }
    static Bytes exclusive_or(Bytes x, Bytes y) { return veorq_u8(x, y); }
    // Four bits and more, and above them what happens to be there, which look_up takes away; fewer are cut out.
    template <int Shift, int Width> static Bytes slice(Bytes x) {
        if constexpr (Shift > 0) x = vshrq_n_u8(x, Shift);
        return cut<Width>(x);
    }
    template <int Shift, int Width> static Bytes slice(Bytes x, Bytes next) {
        return cut<Width>(vsliq_n_u8(vshrq_n_u8(x, Shift), next, 8 - Shift));
    }

    static constexpr int kBias = 0;
    static Bytes biased(Bytes w) { return w; }
    static Operand operand(Bytes x) { return x; }
    static Ints start(int32_t /*excess*/) { return vdupq_n_s32(0); }
    // |x| <= 127 and |w| <= 127, so the sums of two products fit int16.
    static Ints dot(Ints sum, Operand x, Bytes w) {
        const int8x16_t xs = vreinterpretq_s8_u8(x), ws = vreinterpretq_s8_u8(w);
        return vpadalq_s16(sum, vmlal_high_s8(vmull_s8(vget_low_s8(xs), vget_low_s8(ws)), xs, ws));
    }
    static void store_sums(int32_t* y, const Ints (&sums)[8]) {
        vst1q_s32(y, vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3])));
        vst1q_s32(y + 4, vpaddq_s32(vpaddq_s32(sums[4], sums[5]), vpaddq_s32(sums[6], sums[7])));
    }
    static int32_t sum_ints(Ints x) { return vaddvq_s32(x); }

  private:
    // 2^n · e^r as in lanes_avx2.h; vminq and vmaxq let a NaN pass.
    static float32x4_t exp_half(float32x4_t x) {
        x = vminq_f32(vdupq_n_f32(88.3f), vmaxq_f32(vdupq_n_f32(-87.3f), x));
        const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
        float32x4_t r = vfmsq_n_f32(x, n, 0.693359375f);
        r = vfmsq_n_f32(r, n, -2.12194440e-4f);
        constexpr float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
        float32x4_t p = vdupq_n_f32(1.0f / 5040);
        for (const float c : coefficients) p = vfmaq_f32(vdupq_n_f32(c), p, r);
        const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
        return vmulq_f32(p, vreinterpretq_f32_s32(exponent));
    }
    static uint32x4_t magnitude_bits(float32x4_t x) { return vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffff)); }
    template <int Width> static Bytes cut(Bytes x) { return Width < 4 ? vandq_u8(x, vdupq_n_u8((1 << Width) - 1)) : x; }
};

#ifdef __ARM_FEATURE_DOTPROD
struct NeonDotprod : Neon {
    static Ints dot(Ints sum, Operand x, Bytes w) { return vdotq_s32(sum, vreinterpretq_s8_u8(x), vreinterpretq_s8_u8(w)); }
};
#endif

}  // namespace
}  // namespace leanto
