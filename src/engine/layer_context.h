// What the graphs of a layer are built from.
#pragma once

#include "engine/expand.h"
#include "model/weights.h"

namespace fastkv {

struct LayerContext {
    const HyperParams& hparams;
    const LayerWeights& weights;
    LayerLinears linears;
};

}  // namespace fastkv
