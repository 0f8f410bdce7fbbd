// The C++ interface without exceptions: results URL.
#include <panta.hpp>

#include <cstdio>

#define THAT(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__,  \
                         #condition);                                          \
            std::exit(1);                                                      \
        }                                                                      \
    } while (0)

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    auto refused = panta::Writer::open("fiel:x");
    THAT(!refused && refused.error().status == PANTA_ERROR_CONFIG);
    THAT(refused.error().message.find("file") != std::string::npos);
    panta::Writer out = panta::Writer::open(argv[1]).value();
    auto u = out.define<std::int64_t>("u", panta::Shape::global({5})).value();
    auto third = out.define<double>("third", panta::Shape::global({1}).relative_accuracy(1e-3)).value();
    auto both = out.define<double>("both", panta::Shape::global({1}).relative_accuracy(1e-3).absolute_accuracy(1));
    THAT(!both && both.error().message.find("accuracy") != std::string::npos);
    auto negative = out.define<double>("negative", panta::Shape::global({1}).absolute_accuracy(-1));
    THAT(!negative && negative.error().status == PANTA_ERROR_DEFINITION);
    std::vector<std::int64_t> data{1, 2, 3, 4, 5};
    std::vector<double> thirds{1.0 / 3};
    panta::WriterStep step = out.begin_step().value();
    auto put = step.put(u, {1}, data);
    THAT(!put && put.error().status == PANTA_ERROR_SHAPE && put.error().rank == 0);
    THAT(put.error().variable == "u");
    THAT(!step.put(u, {0, 0}, data));
    THAT(!step.end());
    panta::WriterStep next = out.begin_step().value();
    THAT(next.put(u, {0}, data));
    THAT(next.put(third, {0}, thirds));
    THAT(next.end().value());
    THAT(out.close());
    panta::Reader in = panta::Reader::open(argv[1]).value();
    auto found = in.next_step();
    THAT(found && found.value());
    THAT(found.value()->get<std::int64_t>("u").value() == data);
    // Nine bits behind the first are near enough.
    THAT(found.value()->get<double>("third").value()[0] == 683.0 / 2048);
    const auto whole = found.value()->get<std::int64_t>("u");
    THAT(whole && whole.value() == data);
    auto crooked = found.value()->get<std::int64_t>("u", panta::box({0, 0}, {1}));
    THAT(!crooked && crooked.error().status == PANTA_ERROR_SELECTION);
    THAT(in.push_counts().value().wasted == 0 && in.group().value().size == 1);
    auto end = in.next_step();
    THAT(end && !end.value() && in.is_at_end());
    THAT(in.close());
    return 0;
}
