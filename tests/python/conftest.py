"""Models of these tests are made by ``small_models``, beside this file."""
