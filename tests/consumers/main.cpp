// Fails unless what it writes into a stream comes back.
#include <panta.hpp>

#include <cstdio>

int main()
try {
    const std::vector<double> put{1, 2, 3};
    panta::Writer out = panta::Writer::open("file:consumer.panta");
    auto u = out.define<double>("u", panta::Shape::global({3}));
    panta::WriterStep step = out.begin_step();
    step.put(u, {0}, put);
    step.end();
    out.close();
    panta::Reader in = panta::Reader::open("file:consumer.panta");
    auto found = in.next_step();
    return found && found->get<double>("u") == put ? 0 : 1;
} catch (const panta::Error &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
