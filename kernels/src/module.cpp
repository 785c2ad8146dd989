// leanto_kernels._native: what Python sees of the kernels.
#include "bindings.h"

NB_MODULE(_native, module) {
    module.doc() = "SIMD kernels and the compressed model's decode step.";
    bind_kernels(module);
    bind_viterbi(module);
    bind_model(module);
}
