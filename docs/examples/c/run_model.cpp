// The same as run_model.c with the C++ wrapper, writing into memory of its own where the model's outputs have one size.
#include <iostream>
#include <linnet/linnet.hpp>

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " MODEL.onnx [THREADS]\n";
        return 2;
    }
    linnet::Options options;
    if (argc > 2) options.set("threads", argv[2]);
    const linnet::Session session(argv[1], options);

    std::vector<std::vector<float>> memory;
    linnet::Session::Feeds feeds;
    for (const linnet::Port& port : session.inputs()) {
        if (port.dtype != LINNET_FLOAT32 || !port.ranked)
            throw std::runtime_error("input '" + port.name + "' is not a float32 tensor of known rank");
        linnet::Shape shape = port.shape;
        std::size_t count = 1;
        for (std::int64_t& size : shape) {
            if (size < 0) size = 1;
            count *= static_cast<std::size_t>(size);
        }
        memory.emplace_back(count, 1.0f);
        feeds.emplace_back(port.name, linnet::Value::view(memory.back().data(), shape));
    }

    const std::vector<linnet::Value> results = session.run(feeds);
    const std::vector<linnet::Port> ports = session.outputs();
    for (std::size_t i = 0; i < results.size(); ++i) {
        std::cout << ports[i].name << ":";
        if (results[i].kind() == LINNET_TENSOR && results[i].dtype() == LINNET_FLOAT32) {
            // A second run into our own memory gives the same bits.
            std::vector<float> own(results[i].count());
            session.run_into(feeds, {{ports[i].name, linnet::Value::view(own.data(), results[i].shape())}});
            const float* data = results[i].data<float>();
            for (std::size_t k = 0; k < own.size(); ++k)
                if (own[k] != data[k]) throw std::runtime_error("two runs differ");
            for (std::size_t k = 0; k < own.size() && k < 8; ++k) std::cout << ' ' << own[k];
        }
        std::cout << '\n';
    }
    return 0;
} catch (const linnet::Error& error) {
    std::cerr << linnet_status_text(error.status()) << ": " << error.what() << '\n';
    return 1;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
