! Prints the number, time and a hash of u and v of every step. Usage: fields URL
program fields
   use panta
   use, intrinsic :: iso_fortran_env, only: int64, real64
   implicit none
   type(panta_reader) :: in
   type(panta_step) :: step
   type(panta_step_info) :: about
   integer(int64), allocatable :: shape_of(:)
   real(real64), allocatable :: u(:, :, :), v(:, :, :)
   character(1024) :: url
   character(32) :: time

   call get_command_argument(1, url)
   call panta_reader_open(url, in)
   do while (panta_next_step(in, step))
      call panta_describe(step, about)
      call panta_selected(step, 'u', shape_of)
      allocate (u(shape_of(1), shape_of(2), shape_of(3)), mold=0.0_real64)
      allocate (v, mold=u)
      call panta_get(step, 'u', u)
      call panta_get(step, 'v', v)
      write (time, '(f32.1)') about%time
      print '(i0,1x,a,2(1x,z16.16))', about%number, trim(adjustl(time)), hash(u), hash(v)
      deallocate (u, v)
   end do
   call panta_reader_close(in)

contains

   ! Products wrap round: compile with -fwrapv.
   integer(int64) function hash(field)
      real(real64), intent(in) :: field(:, :, :)
      integer :: x, y, z
      hash = 1
      do z = 1, size(field, 3)
         do y = 1, size(field, 2)
            do x = 1, size(field, 1)
               hash = ieor(hash, transfer(field(x, y, z), hash))*1099511628211_int64
            end do
         end do
      end do
   end function
end program fields
