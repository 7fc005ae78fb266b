"""Serving models over gRPC and HTTP (``pip install linnet[serve]``)."""
