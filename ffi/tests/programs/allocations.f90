! Counts how often puts of either kind and gets take memory once they are warm:
! allocations URL. Prints them; counting.c, which is linked in, counts.
program allocations
   use panta
   use, intrinsic :: iso_c_binding
   implicit none
   interface
      integer(c_int) function memory_taken() bind(C)
         import :: c_int
      end function
   end interface
   integer, parameter :: cells = 128, calls = 50
   real(c_double), target :: field(cells) = 0
   character(1024) :: url
   type(panta_writer) :: out
   type(panta_variable) :: u
   type(panta_reader) :: in
   type(panta_step) :: step
   integer :: i, round, deferred, copied, gets

   call get_command_argument(1, url)
   call panta_writer_open(url, out)
   call panta_define(out, u, 'u', PANTA_F64, [cells])
   do round = 1, 2
      call panta_begin_step(out)
      deferred = memory_taken()
      do i = 1, calls
         call panta_put_deferred(out, u, field, [1])
      end do
      deferred = memory_taken() - deferred
      call panta_end_step(out)
   end do
   call panta_define(out, u, 'v', PANTA_F64, [cells])
   do round = 1, 3
      call panta_begin_step(out)
      copied = memory_taken()
      do i = 1, calls
         call panta_put(out, u, field, [1])
      end do
      copied = memory_taken() - copied
      call panta_end_step(out)
   end do
   call panta_writer_close(out)
   if (memory_taken() == 0) error stop 'nothing was counted'
   call panta_reader_open(url, in)
   if (.not. panta_next_step(in, step)) error stop 'no step'
   do round = 1, 2
      gets = memory_taken()
      do i = 1, calls
         call panta_get(step, 'u', field, [1], [cells])
      end do
      gets = memory_taken() - gets
   end do
   call panta_reader_close(in)
   print '(i0,1x,i0,1x,i0)', deferred, copied, gets
end program allocations
