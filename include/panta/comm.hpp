// What opens a stream: its ranks, what interrupts it, and what its handles tell of themselves.
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_COMM_HPP
#define PANTA_COMM_HPP

#include "result.hpp"

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <vector>

namespace panta {
inline namespace PANTA_ERRORS_ {

// The ranks that open a stream together; one rank alone by default.
class Comm {
public:
    Comm() = default;
    explicit Comm(panta_comm *comm) : handle_(comm) {}
    static Returned<Comm> procs()
    {
        panta_comm *comm = nullptr;
        panta_status status = panta_comm_procs(&comm);
        return detail::give(status, Comm(comm));
    }
    // Ranks that are threads of this process: one communicator for each, in rank order.
    static Returned<std::vector<Comm>> threads(int size)
    {
        std::vector<panta_comm *> comms(size > 0 ? static_cast<std::size_t>(size) : 1);
        panta_status status = panta_comm_threads(size, comms.data());
        std::vector<Comm> threads;
        for (panta_comm *comm : comms)
            threads.emplace_back(status == PANTA_OK ? comm : nullptr);
        return detail::give(status, std::move(threads));
    }
    // Ranks that a function of yours reaches, used while a stream opens:
    //     panta_status allgather(const void *mine, void *all, std::uint64_t bytes_each,
    //                            std::chrono::milliseconds deadline)
    // gathers the bytes of every rank, in rank order, on every rank. PANTA_ERROR_DEADLINE if
    // there was no time. What it throws is the reason why the opening fails.
    template <typename Allgather> static Returned<Comm> of(int rank, int size, Allgather allgather)
    {
        auto kept = std::make_unique<Allgather>(std::move(allgather));
        panta_comm_vtable table = PANTA_SIZED(panta_comm_vtable);
        table.context = kept.get();
        table.rank = rank;
        table.size_of_group = size;
        table.allgather = &Comm::gather<Allgather>;
        table.release = [](void *context) { delete static_cast<Allgather *>(context); };
        panta_comm *comm = nullptr;
        panta_status status = panta_comm_from_vtable(&table, &comm);
        if (status == PANTA_OK)
            kept.release();
        return detail::give(status, Comm(comm));
    }
#ifdef PANTA_MPI_H
    static Returned<Comm> mpi(MPI_Comm group)
    {
        panta_comm *comm = nullptr;
        panta_status status = panta_comm_mpi(group, &comm);
        return detail::give(status, Comm(comm));
    }
#endif
    panta_comm *get() const { return handle_.get(); }

private:
    template <typename Allgather>
    static panta_status gather(void *context, const void *mine, void *all, std::uint64_t bytes_each,
                               std::int64_t deadline_ms, char *why, std::size_t why_bytes) noexcept
    {
        Allgather &allgather = *static_cast<Allgather *>(context);
        const std::chrono::milliseconds deadline(deadline_ms);
#ifdef PANTA_NO_EXCEPTIONS
        (void)why, (void)why_bytes;
        return allgather(mine, all, bytes_each, deadline);
#else
        try {
            return allgather(mine, all, bytes_each, deadline);
        } catch (const std::exception &error) {
            std::snprintf(why, why_bytes, "%s", error.what());
        } catch (...) {
            std::snprintf(why, why_bytes, "something was thrown that is no std::exception");
        }
        return PANTA_ERROR_COMMUNICATOR;
#endif
    }

    detail::Owned<panta_comm, panta_comm_close> handle_;
};

// Ends the waits of what was opened with it: `options.interrupter = interrupter.get()`.
class Interrupter {
public:
    static Returned<Interrupter> make()
    {
        panta_interrupter *interrupter = nullptr;
        panta_status status = panta_interrupter_open(&interrupter);
        return detail::give(status, Interrupter(interrupter));
    }
    // Also from a signal handler, and on any thread.
    void interrupt() const { panta_interrupt(get()); }
    void clear() const { panta_clear_interrupt(get()); }
    panta_interrupter *get() const { return handle_.get(); }

private:
    explicit Interrupter(panta_interrupter *interrupter) : handle_(interrupter) {}
    detail::Owned<panta_interrupter, panta_interrupter_close> handle_;
};

// What carries a stream, and why.
struct Engine {
    std::string engine, transport, why;
};

// A rank, and how many there are.
struct Group {
    int rank = 0, size = 1;
};

namespace detail {

// What writers and readers tell alike, each with functions of its own.
template <typename H> Returned<Engine> engine(H *handle, panta_status (*ask)(H *, panta_engine_info *))
{
    panta_engine_info info = PANTA_SIZED(panta_engine_info);
    panta_status status = ask(handle, &info);
    return give(status, status == PANTA_OK ? Engine{info.engine, info.transport, info.why} : Engine{});
}

template <typename H> Returned<panta_copies> copies(H *handle, panta_status (*ask)(H *, panta_copies *))
{
    panta_copies copies = PANTA_SIZED(panta_copies);
    panta_status status = ask(handle, &copies);
    return give(status, copies);
}

template <typename H>
Returned<Group> group(H *handle, panta_status (*ask)(H *, std::int32_t *, std::int32_t *))
{
    std::int32_t rank = 0, size = 0;
    panta_status status = ask(handle, &rank, &size);
    return give(status, Group{rank, size});
}

// A number that is given at a place: bytes, a descriptor.
template <typename N, typename H> Returned<N> number(H *handle, panta_status (*ask)(H *, N *))
{
    N number = 0;
    panta_status status = ask(handle, &number);
    return give(status, number);
}

} // namespace detail

} // inline namespace
} // namespace panta

#endif // PANTA_COMM_HPP
