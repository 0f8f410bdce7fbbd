// panta.hpp: Panta for C++17, on top of panta.h, whose page of prose holds here.
//
//     panta::Writer out = panta::Writer::open("run42", comm);
//     auto u = out.define<double>("u", panta::Shape::global({nz, ny, nx}).unit("K"));
//     while (running) {
//         panta::WriterStep step = out.begin_step(time);
//         step.put(u, {z0, 0, 0}, panta::View(data, {mz, ny, nx}));
//         step.end();
//     }
//     out.close();
//
//     panta::Reader in = panta::Reader::open("run42");
//     while (auto step = in.next_step())
//         std::vector<double> plane = step->get<double>("u", panta::box({0, 0, 0}, {1, ny, nx}));
//
// Handles close themselves; `close()` in addition tells whether that went well.
// A WriterStep that is dropped before `end()` is given up on every rank.
//
// Errors.  By default functions throw panta::Error. With PANTA_NO_EXCEPTIONS
// defined before this header (implied by -fno-exceptions) they return
// panta::Result<T> instead: true or false, then value() or error(). The two
// forms live in different inline namespaces, so that they can be linked together.
//
// Arrays.  panta::View<T> is an array in memory: pointer, extents, strides in
// elements. It is made of a pointer and extents, of a std::vector, or of any
// mdspan (std's, Kokkos'), of which it needs the members only.
//
// One include: the files beside it, in panta/, are its parts.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PANTA_HPP
#define PANTA_HPP

#include "panta/comm.hpp"
#include "panta/reader.hpp"
#include "panta/result.hpp"
#include "panta/view.hpp"
#include "panta/writer.hpp"

#endif // PANTA_HPP
