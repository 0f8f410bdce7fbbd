! The other side of mpi.c, in Fortran: writes what that reads, reads what that writes,
! while both run, each under an mpirun of its own. Usage: coupled URL write|read
program coupled
   use mpi_f08
   use panta
   use panta_mpi
   use, intrinsic :: iso_c_binding
   implicit none
   integer, parameter :: columns = 3, rows = 4, steps = 5
   character(1024) :: url, side
   type(panta_comm) :: comm
   integer :: rank, size

   call get_command_argument(1, url)
   call get_command_argument(2, side)
   call MPI_Init()
   call MPI_Comm_rank(MPI_COMM_WORLD, rank)
   call MPI_Comm_size(MPI_COMM_WORLD, size)
   call panta_comm_mpi(MPI_COMM_WORLD, comm)
   if (side == 'write') then
      call write_it()
   else
      call read_it()
   end if
   call panta_comm_close(comm)
   call MPI_Finalize()

contains

   ! What stands at (column, row), counted from 1: C counts row by row, from 0.
   elemental real(c_double) function cell(step, column, row)
      integer, intent(in) :: step, column, row
      cell = 1000*step + (row - 1)*columns + column - 1
   end function

   subroutine write_it()
      type(panta_writer) :: out
      type(panta_variable) :: u
      real(c_double) :: band(columns, rows)
      integer :: step, i, j
      call panta_writer_open(url, out, comm)
      call panta_define(out, u, 'u', PANTA_F64, [columns, rows*size])
      do step = 0, steps - 1
         do j = 1, rows
            do i = 1, columns
               band(i, j) = cell(step, i, rows*rank + j)
            end do
         end do
         call panta_begin_step(out, 0.1_c_double*step)
         call panta_put(out, u, band, [1, rows*rank + 1])
         call panta_end_step(out)
      end do
      call panta_writer_close(out)
   end subroutine

   ! Each rank a share of the columns, which cuts across what was put.
   subroutine read_it()
      type(panta_reader) :: in
      type(panta_step) :: found
      type(panta_variable_info) :: info
      real(c_double), allocatable :: line(:)
      integer :: step, own, row
      call panta_reader_open(url, in, comm)
      own = mod(rank, columns) + 1
      step = 0
      do while (panta_next_step(in, found))
         call panta_find_variable(found, 'u', info)
         if (info%shape(1) /= columns) error stop 'the shape'
         allocate (line(info%shape(2)))
         call panta_get(found, 'u', line, [own, 1], count=[1, int(info%shape(2))])
         do row = 1, int(info%shape(2))
            if (line(row) /= cell(step, own, row)) error stop 'a cell'
         end do
         deallocate (line)
         step = step + 1
      end do
      if (step /= steps) error stop 'the number of steps'
      call panta_reader_close(in)
   end subroutine
end program coupled
