// Programs in postfix notation, for what training makes of formulas.
#include <cstdlib>
#include <cstring>

#include "ops/shared/compose.h"

namespace linnet {

ValueIds Compose::run(Program program) const {
    ValueIds stack, &values = program.values;
    char word[40];
    for (const char* at = program.text; *at != '\0' && *at != '|' && *at != '\n';) {
        const size_t length = std::strcspn(at, " |\n");
        std::memcpy(word, at, length);
        word[length] = '\0';
        at += length;
        at += *at == ' ';
        char* const mark = std::strpbrk(word, ":/");
        if (length == 1 && *word >= 'a' && *word <= 'z') {
            const ValueId v = values[static_cast<size_t>(*word - 'a')];
            const DType own = patch.fact(v).dtype;
            stack.push_back(own == DType::boolean || own == DType::undefined ? v : cast(v, program.dtype));
        } else if (*word == '=') {
            const auto index = static_cast<size_t>(word[1] - 'a');
            while (values.size() <= index) values.push_back(kNoValue);
            values[index] = stack.back();
            stack.pop_back();
        } else if (*word >= '0' && *word <= '9') {
            stack.push_back(number(std::strtod(word, nullptr), program.dtype));
        } else if (mark && *mark == ':') {
            *mark = '\0';
            const float value = program.attributes.f(word, std::strtof(mark + 1, nullptr));
            stack.push_back(number(static_cast<double>(value), program.dtype));
        } else if (*word >= 'a' && *word <= 'z') {
            stack.back() = program.word(program.context, word, stack.back());
        } else {
            const size_t count = mark ? static_cast<size_t>(mark[1] - '0') : 2;
            if (mark) *mark = '\0';
            ValueIds inputs;
            for (size_t i = stack.size() - count; i < stack.size(); ++i) inputs.push_back(stack[i]);
            for (size_t i = 0; i < count; ++i) stack.pop_back();
            stack.push_back(patch.node(word, inputs));
        }
    }
    return stack;
}

}  // namespace linnet
