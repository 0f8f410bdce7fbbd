! Writes or reads the stream of the scenario `languages`:
!     languages write|read URL STEPS WRITERS
! with its place in its group in the environment. Dimensions are listed the other
! way round than in the other languages. Integers are to wrap: -fwrapv.
program languages
   use panta
   use, intrinsic :: iso_fortran_env, only: error_unit, int32, int64, real64
   implicit none
   integer(int64), parameter :: volume_shape(3) = [6, 5, 4], plane_shape(2) = [10, 6], &
                                wave_shape(1) = [8], flags_shape(2) = [3, 4], row = 3
   character(4096) :: role, url, word
   type(panta_comm) :: comm
   integer(int64) :: steps, writers

   call get_command_argument(1, role)
   call get_command_argument(2, url)
   call get_command_argument(3, word)
   read (word, *) steps
   call get_command_argument(4, word)
   read (word, *) writers
   call panta_comm_procs(comm)
   if (role == 'write') then
      call write_stream()
   else
      call read_stream()
   end if
   call panta_comm_close(comm)

contains

   subroutine expect(is, what)
      logical, intent(in) :: is
      character(*), intent(in) :: what
      if (is) return
      write (error_unit, '(2a)') 'not so: ', what
      error stop 1
   end subroutine

   pure integer(int64) function bits(variable, step, index)
      character(*), intent(in) :: variable
      integer(int64), intent(in) :: step, index
      integer(int64) :: seed
      integer :: i
      seed = int(z'cbf29ce484222325', int64)
      do i = 1, len(variable)
         seed = ieor(seed, iachar(variable(i:i), int64))*int(z'100000001b3', int64)
      end do
      bits = step*int(z'9e3779b97f4a7c15', int64) + index
      bits = ieor(bits*int(z'd1342543de82ef95', int64), seed)
      bits = ieor(bits, shiftr(bits, 30))*int(z'bf58476d1ce4e5b9', int64)
      bits = ieor(bits, shiftr(bits, 27))*int(z'94d049bb133111eb', int64)
      bits = ieor(bits, shiftr(bits, 31))
   end function

   elemental real(real64) function real_of(bits)
      integer(int64), intent(in) :: bits
      real_of = real(shiftr(bits, 11), real64)*1e-9_real64 - 1e6_real64
   end function

   ! The bits of a box at `start` (from 1) of an array, the first index the fastest.
   function box_bits(variable, step, shape_of, start, count) result(made)
      character(*), intent(in) :: variable
      integer(int64), intent(in) :: step, shape_of(3), start(3), count(3)
      integer(int64) :: made(count(1), count(2), count(3)), i, j, k
      do k = 1, count(3)
         do j = 1, count(2)
            do i = 1, count(1)
               made(i, j, k) = bits(variable, step, start(1) + i - 2 + shape_of(1)* &
                                    (start(2) + j - 2 + shape_of(2)*(start(3) + k - 2)))
            end do
         end do
      end do
   end function

   function volume(step, start, count) result(made)
      integer(int64), intent(in) :: step, start(3), count(3)
      real(real64) :: made(count(1), count(2), count(3))
      made = real_of(box_bits('volume', step, volume_shape, start, count))
   end function

   function plane(step, first, count) result(made)
      integer(int64), intent(in) :: step, first, count
      integer(int32) :: made(plane_shape(1), count)
      made = reshape(int(shifta(box_bits('plane', step, [plane_shape, 1_int64], &
                                         [1_int64, first, 1_int64], &
                                         [plane_shape(1), count, 1_int64]), 32), int32), &
                     shape(made))
   end function

   function wave(step, first, count) result(made)
      integer(int64), intent(in) :: step, first, count
      complex(real64) :: made(count)
      integer(int64) :: of(count)
      of = reshape(box_bits('wave', step, [wave_shape, 1_int64, 1_int64], &
                            [first, 1_int64, 1_int64], [count, 1_int64, 1_int64]), [count])
      made = cmplx(real_of(of), real_of(shiftl(of, 32)), real64)
   end function

   function flags(step, first, count) result(made)
      integer(int64), intent(in) :: step, first, count
      logical :: made(flags_shape(1), count)
      made = reshape(box_bits('flags', step, [flags_shape, 1_int64], &
                              [1_int64, first, 1_int64], &
                              [flags_shape(1), count, 1_int64]) < 0, shape(made))
   end function

   function rows(step, first, count) result(made)
      integer(int64), intent(in) :: step, first, count
      real(real64) :: made(row, count)
      made = reshape(real_of(box_bits('rows', step, [row, 1_int64, 1_int64], &
                                      [1_int64, first, 1_int64], [row, count, 1_int64])), &
                     shape(made))
   end function

   ! How many rows of `rows` a rank puts in a step.
   pure integer(int64) function rows_of(rank, step)
      integer(int64), intent(in) :: rank, step
      rows_of = mod(2*rank + step, 4_int64)
   end function

   ! How many rows the ranks below `rank` put in a step.
   pure integer(int64) function rows_below(rank, step)
      integer(int64), intent(in) :: rank, step
      integer(int64) :: other
      rows_below = 0
      do other = 0, rank - 1
         rows_below = rows_below + rows_of(other, step)
      end do
   end function

   function title(step) result(text)
      integer(int64), intent(in) :: step
      character(:), allocatable :: text
      character(8) :: number
      write (number, '(i0)') step
      text = 'title '//trim(number)//' '//char(207)//char(137)
   end function

   subroutine write_stream()
      type(panta_writer) :: out
      type(panta_variable) :: is_volume, is_plane, is_wave, is_flags, is_rows, is_count, is_title
      integer :: own, size_of_group
      integer(int64) :: step, rank, z(2), y(2), x(2), flag(2)
      call panta_writer_open(url, out, comm)
      call panta_writer_group(out, own, size_of_group)
      call expect(size_of_group == writers, 'the size of the group')
      rank = own
      call panta_define(out, is_volume, 'volume', PANTA_F64, volume_shape, ['x', 'y', 'z'], 'K')
      call panta_define(out, is_plane, 'plane', PANTA_I32, plane_shape, ['x', 'y'], 'K')
      call panta_define(out, is_wave, 'wave', PANTA_COMPLEX128, wave_shape, ['x'], 'K')
      call panta_define(out, is_flags, 'flags', PANTA_BOOL, flags_shape, ['x', 'y'], 'K')
      call panta_define_joined(out, is_rows, 'rows', PANTA_F64, [row, 0_int64], 2)
      call panta_define_value(out, is_count, 'count', PANTA_I64)
      call panta_define_value(out, is_title, 'title', PANTA_TEXT)
      call panta_set_attribute(out, 'answer', 42)
      z = slab(volume_shape(3), rank)
      y = slab(plane_shape(2), rank)
      x = slab(wave_shape(1), rank)
      flag = slab(flags_shape(2), rank)
      do step = 0, steps - 1
         call panta_begin_step(out, 0.5_real64*step)
         call panta_put(out, is_volume, &
                        volume(step, [1_int64, 1_int64, z(1)], [volume_shape(1:2), z(2)]), &
                        [1_int64, 1_int64, z(1)])
         call panta_put(out, is_plane, plane(step, y(1), y(2)), [1_int64, y(1)])
         call panta_put(out, is_wave, wave(step, x(1), x(2)), [x(1)])
         call panta_put(out, is_flags, flags(step, flag(1), flag(2)), [1_int64, flag(1)])
         call panta_put(out, is_rows, rows(step, rows_below(rank, step) + 1, rows_of(rank, step)))
         if (rank == 0) then
            call panta_put(out, is_count, bits('count', step, 0_int64))
            call panta_put_text(out, is_title, title(step))
         end if
         call panta_end_step(out)
      end do
      call panta_writer_close(out)
   end subroutine

   ! Where a rank's part of a dimension begins, from 1, and how long it is.
   pure function slab(side, rank) result(part)
      integer(int64), intent(in) :: side, rank
      integer(int64) :: part(2)
      part(1) = side*rank/writers + 1
      part(2) = side*(rank + 1)/writers + 1 - part(1)
   end function

   subroutine read_stream()
      type(panta_reader) :: in
      type(panta_step) :: found
      integer(int64) :: step
      call panta_reader_open(url, in, comm)
      step = 0
      do while (panta_next_step(in, found))
         call check_step(found, step)
         step = step + 1
      end do
      call expect(step == steps, 'every step')
      call panta_reader_close(in)
   end subroutine

   subroutine check_info(found, name, shape_of, dims)
      type(panta_step), intent(in) :: found
      character(*), intent(in) :: name, dims(:)
      integer(int64), intent(in) :: shape_of(:)
      type(panta_variable_info) :: info
      call panta_find_variable(found, name, info)
      call expect(size(info%shape) == size(shape_of), 'the dimensions of '//name)
      call expect(all(info%shape == shape_of), 'the shape of '//name)
      call expect(all(info%dimension_names == dims), 'the names of the dimensions of '//name)
      call expect(info%unit == 'K', 'the unit of '//name)
   end subroutine

   subroutine check_step(found, step)
      type(panta_step), intent(in) :: found
      integer(int64), intent(in) :: step
      type(panta_step_info) :: about
      real(real64) :: whole(6, 5, 4), part(4, 3, 2)
      integer(int32) :: numbers(10, 6)
      complex(real64) :: waves(8)
      logical :: truths(3, 4)
      real(real64), allocatable :: joined(:, :)
      integer(int64) :: count
      integer :: answer
      character(:), allocatable :: text
      call panta_describe(found, about)
      call expect(about%number == step .and. about%time == 0.5_real64*step, 'number and time')
      call check_info(found, 'volume', volume_shape, ['x', 'y', 'z'])
      call check_info(found, 'plane', plane_shape, ['x', 'y'])
      call check_info(found, 'wave', wave_shape, ['x'])
      call check_info(found, 'flags', flags_shape, ['x', 'y'])
      call panta_get(found, 'volume', whole)
      call expect(all(whole == volume(step, [1_int64, 1_int64, 1_int64], volume_shape)), 'volume')
      call panta_get(found, 'volume', part, [2, 3, 2])
      call expect(all(part == whole(2:5, 3:5, 2:3)), 'a box of volume')
      call panta_get(found, 'plane', numbers)
      call expect(all(numbers == plane(step, 1_int64, plane_shape(2))), 'plane')
      call panta_get(found, 'wave', waves)
      call expect(all(waves == wave(step, 1_int64, wave_shape(1))), 'wave')
      call panta_get(found, 'flags', truths)
      call expect(all(truths .eqv. flags(step, 1_int64, flags_shape(2))), 'flags')
      allocate (joined(row, rows_below(writers, step)))
      call panta_get(found, 'rows', joined)
      call expect(all(joined == rows(step, 1_int64, size(joined, 2, int64))), 'rows')
      call panta_get(found, 'count', count)
      call expect(count == bits('count', step, 0_int64), 'count')
      call panta_get_text(found, 'title', text)
      call expect(text == title(step), 'title')
      call panta_get_attribute(found, 'answer', answer)
      call expect(answer == 42, 'answer')
   end subroutine
end program languages
