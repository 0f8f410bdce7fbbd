// Prints the number, time and a hash of u and v of every step. Usage: fields URL
#include <panta.hpp>

#include <cinttypes>
#include <cstdio>
#include <cstring>

int main(int, char **argv)
try {
    panta::Reader in = panta::Reader::open(argv[1]);
    while (auto step = in.next_step()) {
        panta_step_info about = step->info();
        std::printf("%" PRId64 " %.1f", about.number, about.time);
        for (const char *name : {"u", "v"}) {
            std::uint64_t sum = 1, bits;
            for (double value : step->get<double>(name)) {
                std::memcpy(&bits, &value, sizeof bits);
                sum = (sum ^ bits) * UINT64_C(1099511628211);
            }
            std::printf(" %016" PRIX64, sum);
        }
        std::printf("\n");
    }
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
