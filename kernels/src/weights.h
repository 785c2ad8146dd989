// The weights of a decoder, checked and ready to multiply.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "config.h"
#include "matrix.h"
#include "tensor.h"

namespace leanto {

// A matrix and what is added to its products.
struct Linear {
    Matrix matrix;
    std::vector<float> bias;  // empty: nothing
};

struct Layer {
    std::vector<float> attention_norm, mlp_norm;                // of what goes in
    std::vector<float> attention_output_norm, mlp_output_norm;  // of what comes out; empty: none
    std::vector<float> query_norm, key_norm;                    // of each head; empty: none
    std::vector<Linear> query_key_value;                        // three, or one with the rows of all
    Linear output;
    std::vector<Linear> gate_up;  // two, or one with the rows of both
    Linear down;
    std::optional<size_t> rope;  // which of the config's; none: this layer does not encode positions
    size_t window;               // the latest tokens that it sees
};

struct Weights {
    Weights(const Parts& parts, const ModelConfig& config);

    const Matrix& head() const { return untied_head ? *untied_head : embedding; }
    // The most that a matrix or rotation needs at once, over all matrices.
    template <class Measure> size_t most(Measure measure) const {
        size_t largest = measure(embedding);
        const auto see = [&](const Matrix& m) { largest = std::max(largest, static_cast<size_t>(measure(m))); };
        if (untied_head) see(*untied_head);
        for (const Layer& l : layers) {
            for (const Linear& linear : l.query_key_value) see(linear.matrix);
            for (const Linear& linear : l.gate_up) see(linear.matrix);
            see(l.output.matrix);
            see(l.down.matrix);
        }
        return largest;
    }

  private:
    Rotations rotations_;

  public:
    Matrix embedding;
    std::optional<Matrix> untied_head;
    std::vector<Layer> layers;
    std::vector<float> final_norm;
};

}  // namespace leanto
