// What every wire's codec makes of a request's bytes, and makes a response's bytes from. A codec knows bytes and
// tensors only: which model is meant, whether its inputs fit and how it is run is decided behind it (server.h).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "serve/status.h"

namespace linnet::serve {

using Bytes = std::span<const std::byte>;

// Limits on what one request may claim, beyond the size of its bytes.
constexpr size_t kMostTensors = 4096, kMostParameters = 4096, kMostRank = 32, kLongestName = 4096;
// Elements of its text tensors, each of which takes some bytes on the wire and a std::string in memory.
constexpr int64_t kMostStrings = int64_t{1} << 22;
// Memory for elements that are not on the wire because the last one given stands for them (TensorFlow's *_val lists).
constexpr int64_t kMostPaddedBytes = int64_t{1} << 24;

struct NamedTensor {
    std::string name;
    Tensor tensor;
};

// An output that is asked for by name.
struct WantedOutput {
    std::string name;
    int64_t classes = 0;  // > 0: the `classes` largest elements of each row as "score:index" (Triton's classification)
    bool binary = false;  // REST v2: as bytes after the JSON
};

// A request, whatever wire it came by. Text is copied (it is short); tensors are views of the request's bytes where
// these are aligned for their type, and own their memory otherwise. The bytes must outlive the request.
struct Request {
    std::string model, version, label, id,
        signature;                      // empty: not given. `version` is the text of a number, or a label
    std::vector<NamedTensor> inputs;    // names are distinct
    std::vector<WantedOutput> outputs;  // empty: all
    uint64_t priority = 0;              // 0: the default; 1 is the highest
    int64_t timeout_us = 0;             // 0: none
    std::string sequence;               // of a stateful sequence; empty: none
    bool raw = true;                    // OIP: tensors came as raw bytes (not typed lists), or there were none
    bool binary_outputs = false;        // REST v2: all outputs are bytes after the JSON, where `outputs` is empty
    bool rows = false;                  // TF Serving's REST: the answer is a list of rows, not of columns
};

// What is sent back: the outputs in the order asked for.
struct Answer {
    std::string model;
    int64_t version = 0;
    std::vector<NamedTensor> outputs;
};

// Bytes in pieces, so that tensors are copied once, by whoever joins them. Pieces refer to `text` and to the memory of
// the answer's tensors, which must outlive them.
class Pieces {
  public:
    // Text made for this answer. Pieces added earlier stay valid.
    void add(std::string text) {
        if (text.empty()) return;
        text_.push_back(std::make_unique<std::string>(std::move(text)));
        add(std::as_bytes(std::span(*text_.back())));
    }
    void add(Bytes view) {
        if (view.empty()) return;
        pieces_.push_back(view);
        size_ += view.size();
    }
    void append(Pieces later) {
        pieces_.insert(pieces_.end(), later.pieces_.begin(), later.pieces_.end());
        for (auto& text : later.text_) text_.push_back(std::move(text));
        size_ += later.size_;
    }
    size_t size() const { return size_; }
    std::span<const Bytes> pieces() const { return pieces_; }
    void copy_to(std::byte* out) const {
        for (const Bytes piece : pieces_) out = std::copy(piece.begin(), piece.end(), out);
    }

  private:
    std::vector<std::unique_ptr<std::string>> text_;
    std::vector<Bytes> pieces_;
    size_t size_ = 0;
};

}  // namespace linnet::serve
