! Fails unless what it writes into a stream comes back.
program consumer
   use panta
   implicit none
   type(panta_writer) :: out
   type(panta_reader) :: in
   type(panta_step) :: step
   type(panta_variable) :: u
   real :: put(3, 2) = reshape([1., 2., 3., 4., 5., 6.], [3, 2]), got(3, 2)

   call panta_writer_open('file:consumer_fortran.panta', out)
   call panta_define(out, u, 'u', PANTA_F32, shape(put))
   call panta_begin_step(out)
   call panta_put(out, u, put)
   call panta_end_step(out)
   call panta_writer_close(out)

   got = 0
   call panta_reader_open('file:consumer_fortran.panta', in)
   do while (panta_next_step(in, step))
      call panta_get(step, 'u', got)
   end do
   call panta_reader_close(in)
   if (any(got /= put)) error stop 'it did not come back'
end program consumer
