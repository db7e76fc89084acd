// What stands behind fastkv::Model.
#pragma once

#include <memory>
#include <string>

#include "fastkv/model.h"
#include "model/device.h"
#include "model/expanded_store.h"
#include "model/gguf_file.h"
#include "model/vocabulary.h"
#include "model/weights.h"

namespace fastkv {

struct Model::Impl {
    GgufFile file;
    std::string hash;
    ModelParams params;  // automatic choices resolved
    HyperParams hparams;
    Vocabulary vocabulary;
    std::unique_ptr<Device> cpu;
    std::unique_ptr<Device> gpu;  // null without -ngl
    Weights weights;
    std::unique_ptr<ExpandedStore> expanded;  // null where nothing stays (Expand::never)

    Impl(const std::string& path, const ModelParams& params);
};

}  // namespace fastkv
