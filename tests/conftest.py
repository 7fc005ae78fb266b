"""Shared by all tests.

In a developer's build (`cmake -G Ninja -B build -DLINNET_PYTHON=ON . && ninja -C build`) the extension module lies in
python/linnet: run `PYTHONPATH=python pytest tests`.
"""
