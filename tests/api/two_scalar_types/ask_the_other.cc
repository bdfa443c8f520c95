#include "answers.h"
#include "other_scalar_type.h"

Answers ask_the_other() { return ask(&vllm::kU4B8); }
