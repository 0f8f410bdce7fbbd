// How the functions of panta.hpp say what went wrong: exceptions, or results.
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_RESULT_HPP
#define PANTA_RESULT_HPP

#include <panta.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#if !defined(PANTA_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define PANTA_NO_EXCEPTIONS
#endif
// The two forms have names of their own, so that they can be linked together.
#ifdef PANTA_NO_EXCEPTIONS
#define PANTA_ERRORS_ results
#else
#define PANTA_ERRORS_ throwing
#include <stdexcept>
#endif

namespace panta {
inline namespace PANTA_ERRORS_ {

// What went wrong: the status, the library's words, and where.
struct Fault {
    panta_status status = PANTA_OK;
    std::string message, stream;
    std::optional<std::string> variable;
    std::int64_t step = -1;
    int rank = -1;

    // The status as panta.h writes it, such as "PANTA_ERROR_SHAPE".
    const char *status_name() const { return panta_status_name(status); }

    // The last error of this thread.
    static Fault last(panta_status status)
    {
        Fault fault;
        fault.status = status;
        fault.message = panta_error_message();
        fault.stream = panta_error_stream();
        if (panta_error_variable())
            fault.variable = panta_error_variable();
        fault.step = panta_error_step();
        fault.rank = panta_error_rank();
        return fault;
    }
};

// The version of the library that runs.
inline const char *version() { return panta_version(); }

// Nothing, as the value of a call that gives nothing.
struct Done {};

#ifdef PANTA_NO_EXCEPTIONS

// A value, or why there is none.
template <typename T> class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Fault fault) : fault_(std::move(fault)) {}
    explicit operator bool() const { return value_.has_value(); }
    const Fault &error() const { return fault_; }
    // The value; without one the program ends.
    T &value() &
    {
        if (!value_)
            std::abort();
        return *value_;
    }
    const T &value() const &
    {
        if (!value_)
            std::abort();
        return *value_;
    }
    T value() &&
    {
        if (!value_)
            std::abort();
        return std::move(*value_);
    }

private:
    std::optional<T> value_;
    Fault fault_;
};

template <typename T> using Returned = Result<T>;
using Nothing = Result<Done>;

#else

// What is thrown.
class Error : public std::runtime_error {
public:
    explicit Error(Fault fault)
        : std::runtime_error(fault.message), fault_(std::move(fault))
    {
    }
    const Fault &fault() const noexcept { return fault_; }
    panta_status status() const noexcept { return fault_.status; }

private:
    Fault fault_;
};

template <typename T> using Returned = T;
using Nothing = void;

#endif

namespace detail {

inline bool is_cut(const std::string &text) { return text.find('\0') != std::string::npos; }

inline panta_status refuse_cut(const char *what)
{
    return panta_fail(PANTA_ERROR_ARGUMENT,
                      (std::string(what) + " holds a zero byte, which would end it").c_str());
}

// Calls `act` with a name as C has it, unless a zero byte would cut it.
template <typename Act> panta_status named(const std::string &name, const Act &act)
{
    return is_cut(name) ? refuse_cut("the name") : act(name.c_str());
}

#ifdef PANTA_NO_EXCEPTIONS
template <typename T> Result<T> give(panta_status status, T value)
{
    if (status != PANTA_OK)
        return Fault::last(status);
    return Result<T>(std::move(value));
}
inline Nothing done(panta_status status) { return give(status, Done{}); }
#else
template <typename T> T give(panta_status status, T value)
{
    if (status != PANTA_OK)
        throw Error(Fault::last(status));
    return value;
}
inline void done(panta_status status) { give(status, Done{}); }
#endif

// Owns a handle and closes it.
template <typename H, panta_status (*close)(H *)> class Owned {
public:
    Owned() = default;
    explicit Owned(H *handle) : handle_(handle) {}
    Owned(Owned &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owned &operator=(Owned &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Owned() { shut(); }
    H *get() const { return handle_; }
    H *release() { return std::exchange(handle_, nullptr); }
    panta_status shut()
    {
        H *handle = std::exchange(handle_, nullptr);
        return handle ? close(handle) : PANTA_OK;
    }

private:
    H *handle_ = nullptr;
};

} // namespace detail

} // inline namespace
} // namespace panta

#endif // PANTA_RESULT_HPP
