"""Runs functions of the modules beside it for another process: pickled requests on stdin, answers on stdout."""

import importlib
import os
import pickle
import sys
import traceback


def main() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints goes elsewhere
    while True:
        try:
            module, function, args, kwargs = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, getattr(importlib.import_module(module), function)(*args, **kwargs))
        except Exception as error:
            code = getattr(error, "code", None) or getattr(error, "status", None)
            text = getattr(error, "details", None) or getattr(error, "message", None)
            code, text = code() if callable(code) else code, text() if callable(text) else text
            answer = (False, (type(error).__name__, str(code), str(text or error), traceback.format_exc()))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
