// Tensors as JSON's nested lists of values, as both REST wires carry them.
#pragma once
#include <string>

#include "serve/json.h"

namespace linnet::serve {

// Makes a tensor of lists whose sizes are not known before they are read. Several items of one shape may be read one
// after the other. Values must fit the element type: numbers (integers without point or exponent) for numbers, true and
// false (or 0 and 1) for bool, text or {"b64": "..."} for strings. Failures say where: "[3][2]: ...".
class ListReader {
  public:
    explicit ListReader(DType dtype);

    // Reads the next value of `in`, which is one item of the tensor, or all of it.
    void read(JsonReader& in);
    int64_t items() const { return items_; }
    int64_t count() const { return count_; }
    const Shape& item_shape() const { return dims_; }
    // The elements read, as a tensor of that shape, whose size must be their number.
    Tensor take(const Shape& shape);

  private:
    void value(JsonReader& in, size_t depth);
    void list(JsonReader& in, size_t depth);
    template <class T, class Read>
    void run(JsonReader& in, int64_t& index, const Read& read);
    int64_t elements(JsonReader& in, int64_t size);
    void element(JsonReader& in);
    template <class T>
    T* room();
    void close(JsonReader& in, size_t depth, int64_t size);
    std::string place() const;

    DType dtype_;
    Tensor memory_;
    int64_t capacity_ = 0, count_ = 0, items_ = 0;
    std::vector<std::string> strings_;
    Shape dims_;           // of an item, as far as lists were closed; -1 before
    bool ranked_ = false;  // the item's rank is dims_.size()
    Shape position_;       // indices that lead to what is being read
};

// True when the value that comes next is {"b64": "..."}; `text` gets the bytes, and the value has then been read.
bool take_base64(JsonReader& in, std::string& text);

// Appends the elements [first, first + product of shape[from..]) as lists nested like shape[from..]. `base64` writes
// text as {"b64": "..."}; without it, text must be UTF-8. Throws for complex numbers.
void put_json(std::string& out, const Tensor& tensor, size_t from, int64_t first, bool base64);
// As one flat list.
void put_json_flat(std::string& out, const Tensor& tensor);

}  // namespace linnet::serve
