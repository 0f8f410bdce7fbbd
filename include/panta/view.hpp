// Arrays in memory, and which part of a variable is wanted.
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_VIEW_HPP
#define PANTA_VIEW_HPP

#include "result.hpp"

#include <array>
#include <complex>
#include <cstddef>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace panta {
inline namespace PANTA_ERRORS_ {

namespace detail {

template <typename T> struct dtype_of {
    static_assert(!sizeof(T *), "not a type that a variable can hold");
};
template <panta_dtype code> struct dtype {
    static constexpr panta_dtype value = code;
};
template <typename T>
inline constexpr panta_dtype integer_dtype =
    std::is_signed_v<T>
        ? (sizeof(T) == 1 ? PANTA_I8 : sizeof(T) == 2 ? PANTA_I16 : sizeof(T) == 4 ? PANTA_I32 : PANTA_I64)
        : (sizeof(T) == 1 ? PANTA_U8 : sizeof(T) == 2 ? PANTA_U16 : sizeof(T) == 4 ? PANTA_U32 : PANTA_U64);
template <> struct dtype_of<signed char> : dtype<PANTA_I8> {};
template <> struct dtype_of<unsigned char> : dtype<PANTA_U8> {};
template <> struct dtype_of<short> : dtype<integer_dtype<short>> {};
template <> struct dtype_of<unsigned short> : dtype<integer_dtype<unsigned short>> {};
template <> struct dtype_of<int> : dtype<integer_dtype<int>> {};
template <> struct dtype_of<unsigned> : dtype<integer_dtype<unsigned>> {};
template <> struct dtype_of<long> : dtype<integer_dtype<long>> {};
template <> struct dtype_of<unsigned long> : dtype<integer_dtype<unsigned long>> {};
template <> struct dtype_of<long long> : dtype<integer_dtype<long long>> {};
template <> struct dtype_of<unsigned long long> : dtype<integer_dtype<unsigned long long>> {};
template <> struct dtype_of<float> : dtype<PANTA_F32> {};
template <> struct dtype_of<double> : dtype<PANTA_F64> {};
template <> struct dtype_of<std::complex<float>> : dtype<PANTA_COMPLEX64> {};
template <> struct dtype_of<std::complex<double>> : dtype<PANTA_COMPLEX128> {};
template <> struct dtype_of<bool> : dtype<PANTA_BOOL> {};
template <> struct dtype_of<std::string> : dtype<PANTA_TEXT> {};
static_assert(sizeof(bool) == 1, "a bool is stored as one byte");

// Whether something is one run of elements that can be seen as T: a std::span, a std::array, or
// a container of yours with data() and size(). Of an array that is about to go away it is none.
template <typename R> struct is_array : std::false_type {};
template <typename U, std::size_t n> struct is_array<std::array<U, n>> : std::true_type {};
template <typename T, typename R, typename = void> struct is_run : std::false_type {};
template <typename T, typename R>
struct is_run<T, R, std::void_t<decltype(std::declval<R &>().data()), decltype(std::declval<R &>().size())>>
    : std::bool_constant<
          std::is_convertible_v<decltype(std::declval<R &>().data()), T *> &&
          std::is_same_v<std::remove_cv_t<std::remove_pointer_t<decltype(std::declval<R &>().data())>>,
                         std::remove_cv_t<T>> &&
          (std::is_lvalue_reference_v<R> || !is_array<std::remove_cv_t<R>>::value)> {};

// Whether something looks like an mdspan.
template <typename M, typename = void> struct is_mdspan : std::false_type {};
template <typename M>
struct is_mdspan<M, std::void_t<typename M::element_type,
                                decltype(std::declval<const M &>().data_handle()),
                                decltype(std::declval<const M &>().extent(0)),
                                decltype(std::declval<const M &>().stride(0)),
                                decltype(M::rank())>> : std::true_type {};

} // namespace detail

// The dtype of a C++ type.
template <typename T>
inline constexpr panta_dtype dtype_of = detail::dtype_of<std::remove_cv_t<T>>::value;

// Cells per dimension, or a position, slowest first.
using Extents = std::vector<std::int64_t>;

// An array in memory, not owned: the last dimension is fastest unless strides
// (in elements) say otherwise.
template <typename T> class View {
public:
    View(T *data, Extents extents) : data_(data), extents_(std::move(extents)), strides_(extents_.size())
    {
        // Of extents that no memory has, the strides are none; the library refuses those.
        std::uint64_t stride = 1;
        for (std::size_t i = extents_.size(); i-- > 0; stride *= static_cast<std::uint64_t>(extents_[i]))
            strides_[i] = static_cast<std::int64_t>(stride);
    }
    View(T *data, Extents extents, Extents strides)
        : data_(data), extents_(std::move(extents)), strides_(std::move(strides))
    {
        expect(strides_.size(), "a view has not one stride for each of its extents");
    }
    template <typename U, typename = std::enable_if_t<std::is_same_v<T, const U>>>
    View(const View<U> &other) : View(other.data(), other.extents(), other.strides())
    {
        fault_ = other.fault();
    }
    template <typename U, typename = std::enable_if_t<std::is_same_v<std::remove_const_t<T>, U>>>
    View(std::vector<U> &vector) : View(vector.data(), {static_cast<std::int64_t>(vector.size())})
    {
    }
    template <typename U, typename = std::enable_if_t<std::is_same_v<T, const U>>>
    View(const std::vector<U> &vector) : View(vector.data(), {static_cast<std::int64_t>(vector.size())})
    {
    }
    template <typename R, typename = std::enable_if_t<detail::is_run<T, R>::value>, typename = void, typename = void>
    View(R &&run) : View(run.data(), {static_cast<std::int64_t>(run.size())})
    {
    }
    template <typename M, typename = std::enable_if_t<detail::is_mdspan<M>::value>, typename = void>
    View(const M &span) : data_(span.data_handle()), extents_(M::rank()), strides_(M::rank())
    {
        for (std::size_t i = 0; i < M::rank(); i++) {
            extents_[i] = static_cast<std::int64_t>(span.extent(i));
            strides_[i] = static_cast<std::int64_t>(span.stride(i));
        }
    }

    T *data() const { return data_; }
    std::size_t rank() const { return extents_.size(); }
    std::int64_t extent(std::size_t dimension) const { return extents_[dimension]; }
    std::int64_t stride(std::size_t dimension) const { return strides_[dimension]; }
    const Extents &extents() const { return extents_; }
    const Extents &strides() const { return strides_; }
    // Why it is no array; NULL if it is one. Whoever is given it fails with these words.
    const char *fault() const { return fault_; }

    // The element at a position, unchecked.
    template <typename... I> T &operator()(I... index) const
    {
        std::int64_t offset = 0;
        std::size_t dimension = 0;
        ((offset += static_cast<std::int64_t>(index) * strides_[dimension++]), ...);
        return data_[offset];
    }

    // The box of `extents` cells from `first`: a field without its ghost cells.
    View part(const Extents &first, Extents extents) const
    {
        T *data = data_;
        for (std::size_t i = 0; i < first.size() && i < strides_.size(); i++)
            data += first[i] * strides_[i];
        View part(data, std::move(extents), strides_);
        part.expect(first.size(), "a part of a view begins at other than one position for each dimension");
        return part;
    }

    // The same array as an mdspan of any library, of this rank and with strided layout:
    // view.as<std::mdspan<double, std::dextents<std::int64_t, 2>, std::layout_stride>>().
    template <typename Mdspan> Returned<Mdspan> as() const
    {
        using Index = typename Mdspan::index_type;
        std::array<Index, Mdspan::rank()> extents{}, strides{};
        panta_status status = PANTA_OK;
        if (fault_ || extents_.size() != Mdspan::rank())
            status = panta_fail(PANTA_ERROR_SHAPE,
                                fault_ ? fault_ : "the mdspan asked for has another rank than the view");
        for (std::size_t i = 0; i < extents_.size() && i < Mdspan::rank(); i++) {
            extents[i] = static_cast<Index>(extents_[i]);
            strides[i] = static_cast<Index>(strides_[i]);
        }
        typename Mdspan::mapping_type mapping(typename Mdspan::extents_type(extents), strides);
        return detail::give(status, Mdspan(data_, mapping));
    }

    panta_buffer buffer() const
    {
        using Element = std::remove_const_t<T>;
        panta_buffer buffer = PANTA_SIZED(panta_buffer);
        buffer.data = const_cast<Element *>(data_);
        buffer.dtype = dtype_of<T>;
        buffer.dimensions = static_cast<std::int32_t>(extents_.size());
        for (std::size_t i = 0; i < extents_.size() && i < strides_.size() && i < PANTA_MAX_DIMS; i++) {
            buffer.count[i] = extents_[i];
            buffer.strides_bytes[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(strides_[i]) * sizeof(T));
        }
        return buffer;
    }

private:
    template <typename U> friend class View;
    void expect(std::size_t dimensions, const char *fault)
    {
        if (dimensions != extents_.size())
            fault_ = fault;
    }

    T *data_;
    Extents extents_, strides_;
    const char *fault_ = nullptr;
};

template <typename T> View(T *, Extents) -> View<T>;
template <typename T> View(T *, std::initializer_list<std::int64_t>) -> View<T>;
template <typename T> View(std::vector<T> &) -> View<T>;
template <typename T> View(const std::vector<T> &) -> View<const T>;
template <typename M, typename = std::enable_if_t<detail::is_mdspan<M>::value>>
View(const M &) -> View<typename M::element_type>;

// Which part of a variable is wanted.
struct Selection : panta_selection {
    Selection(const panta_selection &selection) : panta_selection(selection) {}
    // Why it is none; NULL if it is one. Whoever is given it fails with these words.
    const char *fault = nullptr;
};

inline Selection everything() { return panta_all(); }
inline Selection block(std::int64_t number) { return panta_block(number); }
// Without counts up to the end; without strides every cell.
inline Selection strided(const Extents &start, const Extents &count, const Extents &stride)
{
    if ((!count.empty() && count.size() != start.size()) || (!stride.empty() && stride.size() != start.size())) {
        Selection none = everything();
        none.fault = "the selection has not as many counts, or strides, as it has starts";
        return none;
    }
    return panta_strided(static_cast<std::int32_t>(start.size()), start.data(),
                         count.empty() ? nullptr : count.data(),
                         stride.empty() ? nullptr : stride.data());
}
inline Selection box(const Extents &start, const Extents &count)
{
    return strided(start, count, {});
}

namespace detail {

// The status of a call that takes a view, or a view and a selection.
template <typename T, typename Call> panta_status with(const View<T> &array, Call call)
{
    if (array.fault())
        return panta_fail(PANTA_ERROR_SHAPE, array.fault());
    panta_buffer buffer = array.buffer();
    return call(buffer);
}

inline panta_status check(const Selection &selection)
{
    return selection.fault ? panta_fail(PANTA_ERROR_SELECTION, selection.fault) : PANTA_OK;
}

} // namespace detail

} // inline namespace
} // namespace panta

#endif // PANTA_VIEW_HPP
