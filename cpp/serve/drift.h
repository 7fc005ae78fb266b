// How far what a model is fed, and what it answers, has moved from a reference.
#pragma once

namespace linnet::serve {

class Drift;

}  // namespace linnet::serve
