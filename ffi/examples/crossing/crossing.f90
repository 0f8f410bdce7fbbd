! Times put and get of 1 KiB through Fortran; see main.rs. Prints nanoseconds of both.
program crossing
   use panta
   use, intrinsic :: iso_fortran_env, only: int64, real64
   implicit none
   integer, parameter :: cells = 128, calls = 200, rounds = 200
   real(real64), target :: field(cells) = 0
   character(1024) :: url
   type(panta_writer) :: out
   type(panta_variable) :: u
   type(panta_reader) :: in
   type(panta_step) :: step
   integer(int64) :: began, ended, rate, put, get
   integer :: round

   call get_command_argument(1, url)
   call panta_writer_open(url, out)
   call panta_define_local(out, u, 'u', PANTA_F64, 1)
   put = huge(put)
   get = huge(get)
   do round = 1, rounds
      call panta_begin_step(out)
      call system_clock(began, rate)
      call crossing_puts()
      call system_clock(ended)
      put = min(put, (ended - began)*(1000000000_int64/rate)/calls)
      call panta_end_step(out)
   end do
   call panta_writer_close(out)
   call panta_reader_open(url, in)
   if (.not. panta_next_step(in, step)) error stop 1
   do round = 1, rounds
      call system_clock(began)
      call crossing_gets()
      call system_clock(ended)
      get = min(get, (ended - began)*(1000000000_int64/rate)/calls)
   end do
   call panta_reader_close(in)
   print '(i0,1x,i0)', put, get
contains
   ! What is timed, and counted by its name.
   subroutine crossing_puts()
      integer :: i
      do i = 1, calls
         call panta_put_deferred(out, u, field)
      end do
   end subroutine crossing_puts

   subroutine crossing_gets()
      integer :: i
      do i = 1, calls
         call panta_get(step, 'u', field, block=1)
      end do
   end subroutine crossing_gets
end program crossing
