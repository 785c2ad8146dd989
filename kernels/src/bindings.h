// The parts of the Python module, each bound in a file of its own.
#pragma once

#include <nanobind/nanobind.h>

void bind_kernels(nanobind::module_& module);
void bind_model(nanobind::module_& module);
void bind_viterbi(nanobind::module_& module);
