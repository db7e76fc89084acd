// The parameters that a command goes by: what was given, else what fastkv tune has found for the model.
#pragma once

#include "cli/options.h"

namespace fastkv::cli {

/// The parameters as given; where none is given, those that fastkv tune has stored for this model file and method,
/// which a line on stderr says. They were measured together, so one given parameter leaves them all aside. A stored
/// file that is broken is named in a warning and ignored.
MethodParams choose_method(const MethodOptions& options, const Model& model);

}  // namespace fastkv::cli
