! Puts arrays of every type, rank and layout, and fails unless they come back.
! Usage: round URL
program round
   use panta
   use, intrinsic :: iso_c_binding
   implicit none
   type :: numbers
      type(panta_variable) :: i1, i2, i4, i8, r4, r8, c4, c8, l1, l4, u4
      type(panta_variable) :: volume, deferred, strided, deep, local, joined
      type(panta_variable) :: value, flag, text, values, holes, span
   end type
   integer, parameter :: nx = 4, ny = 3, nz = 2
   character(1024) :: url
   real(c_double), target :: field(nx, ny, nz), ghosted(0:nx + 1, 0:ny + 1), matrix(nx, ny)
   integer :: step

   call get_command_argument(1, url)
   call write_it()
   call read_it()
   print '(a)', 'round: all came back'

contains

   subroutine expect(is, what)
      logical, intent(in) :: is
      character(*), intent(in) :: what
      if (is) return
      print '(2a)', 'not so: ', what
      print '(a)', panta_error_message()
      error stop 1
   end subroutine

   subroutine fill(number)
      integer, intent(in) :: number
      integer :: i, j, k
      do k = 1, nz
         do j = 1, ny
            do i = 1, nx
               field(i, j, k) = 1000*number + 100*k + 10*j + i
            end do
         end do
      end do
      ghosted = -1
      ghosted(1:nx, 1:ny) = field(:, :, 1)
   end subroutine

   subroutine write_it()
      type(panta_writer) :: out
      type(numbers) :: is
      integer(c_int64_t) :: number
      logical :: discarded
      call panta_writer_open(url, out)
      call define_all(out, is)
      call panta_set_attribute(out, 'answer', 42)
      call panta_set_attribute(out, 'pi', 3.25_c_double)
      call panta_set_attribute(out, 'long_name  ', 'temperature of it  ', variable=is%r8)
      call panta_set_attribute(out, 'axes', ['x ', 'yy'])
      call panta_set_attribute(out, 'many', [1_c_int64_t, -2_c_int64_t])
      do step = 0, 1
         call fill(step)
         call panta_begin_step(out, 0.5_c_double*step)
         call expect(.not. panta_is_discarded(out), 'a step of a file is kept')
         call put_types(out, is)
         call put_layouts(out, is)
         call put_others(out, is)
         call panta_end_step(out, number, discarded)
         call expect(number == step .and. .not. discarded, 'the step has its number')
      end do
      call panta_writer_close(out)
   end subroutine

   subroutine define_all(out, is)
      type(panta_writer), intent(in) :: out
      type(numbers), intent(out) :: is
      integer :: wide(15)
      wide = 1
      wide(1:2) = [2, 3]
      call panta_define(out, is%i1, 'i1', PANTA_I8, [nx])
      call panta_define(out, is%i2, 'i2', PANTA_I16, [nx])
      call panta_define(out, is%i4, 'i4', PANTA_I32, [nx])
      call panta_define(out, is%i8, 'i8', PANTA_I64, [nx])
      call panta_define(out, is%u4, 'u4', PANTA_U32, [nx])
      call panta_define(out, is%r4, 'r4', PANTA_F32, [nx], relative_accuracy=1e-2_c_double)
      call panta_define(out, is%r8, 'r8', PANTA_F64, [nx], unit='K ')
      call panta_define(out, is%c4, 'c4', PANTA_COMPLEX64, [nx])
      call panta_define(out, is%c8, 'c8', PANTA_COMPLEX128, [nx])
      call panta_define(out, is%l1, 'l1', PANTA_BOOL, [nx])
      call panta_define(out, is%l4, 'l4', PANTA_BOOL, [nx, ny])
      call panta_define(out, is%volume, 'volume  ', PANTA_F64, [nx, ny, 2*nz], &
                        dimension_names=['x ', 'y ', 'zz'], unit='m', &
                        coordinates=['r8'], chunk=[2, 2, 1])
      call panta_define(out, is%deferred, 'deferred', PANTA_F64, [nx, ny])
      call panta_define(out, is%strided, 'strided', PANTA_F64, [nx/2, ny])
      call panta_define(out, is%span, 'span', PANTA_F64, [nx, ny])
      call panta_define(out, is%deep, 'deep', PANTA_I32, wide)
      call panta_define(out, is%holes, 'holes', PANTA_F64, [nx, ny], fill=-1.5_c_double)
      call panta_define_local(out, is%local, 'local', PANTA_F64, 1)
      call panta_define_joined(out, is%joined, 'joined', PANTA_F64, [nx, 0], 2)
      call panta_define_value(out, is%value, 'value', PANTA_F64)
      call panta_define_value(out, is%flag, 'flag', PANTA_BOOL)
      call panta_define_value(out, is%text, 'text', PANTA_TEXT)
      call panta_define_value(out, is%values, 'values', PANTA_I32, local=.true.)
   end subroutine

   subroutine put_types(out, is)
      type(panta_writer), intent(in) :: out
      type(numbers), intent(in) :: is
      integer :: i
      call panta_put(out, is%i1, [(int(-i, c_int8_t), i=1, nx)])
      call panta_put(out, is%i2, [(int(-300*i, c_int16_t), i=1, nx)])
      call panta_put(out, is%i4, [(-70000*i, i=1, nx)])
      call panta_put(out, is%i8, [(-5000000000_c_int64_t*i, i=1, nx)])
      call panta_put(out, is%u4, [(-i, i=1, nx)])
      call panta_put(out, is%r4, [(0.5*i, i=1, nx)])
      call panta_put(out, is%r8, field(:, 1, 1))
      call panta_put(out, is%c4, [(cmplx(i, -i), i=1, nx)])
      call panta_put(out, is%c8, [(cmplx(i, -i, c_double), i=1, nx)])
      call panta_put(out, is%l1, [(logical(i > 2, c_bool), i=1, nx)])
      call panta_put(out, is%l4, mod(int(field(:, :, 1)), 2) == 0)
   end subroutine

   ! Sections where they lie, starts of both kinds, and memory that changes after.
   subroutine put_layouts(out, is)
      type(panta_writer), intent(in) :: out
      type(numbers), intent(in) :: is
      real(c_double), pointer :: span(:, :)
      type(c_ptr) :: memory
      integer, allocatable :: deep(:, :, :, :, :, :, :, :, :, :, :, :, :, :, :)
      call panta_put(out, is%volume, field, [1, 1, 1])
      call panta_put(out, is%volume, field(:, :, 1), [1_c_int64_t, 1_c_int64_t, 3_c_int64_t], &
                     count=[int(nx, c_int64_t), int(ny, c_int64_t), 1_c_int64_t])
      call panta_put(out, is%volume, field(nx:1:-1, :, 2:2), start=[1, 1, 4])
      ! Read now: what is written to the array afterwards must not show.
      matrix = field(:, :, 1)
      call panta_put(out, is%strided, matrix(1:nx:2, :))
      matrix = -7
      ! Read at the end, where it lies: what is written in between must show.
      call panta_put_deferred(out, is%deferred, ghosted(1:nx, 1:ny))
      ghosted(1, 1) = -77
      call panta_span(out, is%span, memory, [nx, ny])
      call c_f_pointer(memory, span, [nx, ny])
      span(:, :) = field(:, :, 2)
      allocate (deep(2, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1))
      deep = reshape([1, 2, 3, 4, 5, 6], shape(deep))
      call panta_put(out, is%deep, deep)
   end subroutine

   subroutine put_others(out, is)
      type(panta_writer), intent(in) :: out
      type(numbers), intent(in) :: is
      call panta_put(out, is%holes, field(2:3, 2:2, 1), [2, 2])
      call panta_put(out, is%local, field(1:2, 1, 1))
      call panta_put(out, is%local, field(1:3, 1, 1))
      call panta_put(out, is%joined, field(:, 1:2, 1))
      call panta_put(out, is%joined, field(:, 3:3, 1))
      call panta_put(out, is%value, 4.5_c_double)
      call panta_put(out, is%flag, .true.)
      call panta_put_text(out, is%text, 'zum Fluss  ')
      call panta_put(out, is%values, 7)
      call panta_put(out, is%values, 8)
   end subroutine

   subroutine read_it()
      type(panta_reader) :: in
      type(panta_step) :: found
      type(panta_step_info) :: about
      integer :: ierr
      call panta_reader_open(url, in)
      step = 0
      do while (panta_next_step(in, found))
         call panta_describe(found, about)
         call expect(about%number == step .and. about%time == 0.5*step, 'number and time')
         call expect(about%variables == 23, 'every variable is there')
         call fill(step)
         call get_types(found)
         call get_layouts(found)
         call get_others(found)
         call get_together(found)
         call get_infos(found)
         step = step + 1
      end do
      call expect(step == 2, 'two steps')
      call expect(.not. panta_next_step(in, found, ierr=ierr), 'no third step')
      call expect(ierr == PANTA_END_OF_STREAM, 'the end is no error')
      call panta_reader_close(in)
   end subroutine

   subroutine get_types(found)
      type(panta_step), intent(in) :: found
      integer(c_int8_t) :: i1(nx)
      integer(c_int16_t) :: i2(nx)
      integer(c_int32_t) :: i4(nx), u4(nx)
      integer(c_int64_t) :: i8(nx)
      real(c_float) :: r4(nx)
      real(c_double) :: r8(nx)
      complex(c_float) :: c4(nx)
      complex(c_double) :: c8(nx)
      logical(c_bool) :: l1(nx)
      logical :: l4(nx, ny), other(2*nx, ny)
      integer :: i
      call panta_get(found, 'i1', i1)
      call expect(all(i1 == [(-i, i=1, nx)]), 'i1')
      call panta_get(found, 'i2', i2)
      call expect(all(i2 == [(-300*i, i=1, nx)]), 'i2')
      call panta_get(found, 'i4  ', i4)
      call expect(all(i4 == [(-70000*i, i=1, nx)]), 'i4')
      call panta_get(found, 'i8', i8)
      call expect(all(i8 == [(-5000000000_c_int64_t*i, i=1, nx)]), 'i8')
      call panta_get(found, 'u4', u4)
      call expect(all(u4 == [(-i, i=1, nx)]), 'u4')
      call panta_get(found, 'r4', r4)
      call expect(all(r4 == [(0.5*i, i=1, nx)]), 'r4')
      call panta_get(found, 'r8', r8)
      call expect(all(r8 == field(:, 1, 1)), 'r8')
      call panta_get(found, 'c4', c4)
      call expect(all(c4 == [(cmplx(i, -i), i=1, nx)]), 'c4')
      call panta_get(found, 'c8', c8)
      call expect(all(c8 == [(cmplx(i, -i, c_double), i=1, nx)]), 'c8')
      call panta_get(found, 'l1', l1)
      call expect(all([(logical(l1(i)) .eqv. i > 2, i=1, nx)]), 'l1')
      call panta_get(found, 'l4', l4)
      call expect(all(l4 .eqv. mod(int(field(:, :, 1)), 2) == 0), 'l4')
      other = .true.
      call panta_get(found, 'l4', other(1:2*nx:2, :))
      call expect(all(other(1:2*nx:2, :) .eqv. l4), 'l4 into a section')
      call expect(all(other(2:2*nx:2, :)), 'l4 beside a section')
   end subroutine

   subroutine get_layouts(found)
      type(panta_step), intent(in) :: found
      real(c_double) :: volume(nx, ny, 2*nz), plane(nx, ny), box(0:3, 2, 2)
      integer :: deep(2, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
      integer(c_int64_t), allocatable :: shape_of(:)
      call panta_get(found, 'volume', volume)
      call expect(all(volume(:, :, 1:2) == field), 'a block of a volume')
      call expect(all(volume(:, :, 3) == field(:, :, 1)), 'a matrix put into a volume')
      call expect(all(volume(:, :, 4) == field(nx:1:-1, :, 2)), 'a section put backwards')
      plane = -1
      call panta_get(found, 'volume', plane(nx:1:-1, :), [1, 1, 4], count=[nx, ny, 1])
      call expect(all(plane == field(:, :, 2)), 'a plane got backwards')
      box = -1
      call panta_get(found, 'volume', box(1:2, :, 1:1), start=[2, 2, 3])
      call expect(all(box(1:2, :, 1) == field(2:3, 2:3, 1)), 'a box of a volume')
      call expect(all(box(0::3, :, 1) == -1) .and. all(box(:, :, 2) == -1), 'beside a box')
      call panta_get(found, 'volume', plane(1:2, 1:2), [1_c_int64_t, 1_c_int64_t, 2_c_int64_t], &
                     count=[2_c_int64_t, 2_c_int64_t, 1_c_int64_t], &
                     stride=[3_c_int64_t, 2_c_int64_t, 1_c_int64_t])
      call expect(all(plane(1:2, 1:2) == field(1:nx:3, 1:ny:2, 2)), 'every so many-th cell')
      call panta_get(found, 'volume', plane, [1, 1, 1], count=[nx, ny, 1], block=2)
      call expect(all(plane == field(:, :, 1)), 'the second block')
      call panta_get(found, 'strided', plane(1:2, :))
      call expect(all(plane(1:2, :) == field(1:nx:2, :, 1)), 'a section, put as it was')
      call panta_get(found, 'deferred', plane)
      call expect(plane(1, 1) == -77, 'no temporary was made of a section')
      call expect(all(plane(2:, :) == field(2:, :, 1)), 'a section, read at the end')
      call panta_get(found, 'span', plane)
      call expect(all(plane == field(:, :, 2)), 'what was computed in a span')
      call panta_get(found, 'deep', deep)
      call expect(all(reshape(deep, [6]) == [1, 2, 3, 4, 5, 6]), 'fifteen dimensions')
      call panta_selected(found, 'volume', shape_of, [2, 1, 1], stride=[2, 1, 1])
      call expect(all(shape_of == [2, ny, 2*nz]), 'the shape of a selection')
   end subroutine

   subroutine get_others(found)
      type(panta_step), intent(in) :: found
      real(c_double) :: plane(nx, ny), row(3), value
      character(:), allocatable :: text
      integer :: values(2), joined
      logical :: flag
      integer, allocatable :: none(:)
      call panta_get(found, 'holes', plane)
      call expect(plane(2, 2) == field(2, 2, 1) .and. plane(1, 1) == -1.5, 'a fill value')
      call panta_get(found, 'local', row, block=2)
      call expect(all(row == field(1:3, 1, 1)), 'a local block')
      call panta_get(found, 'joined', plane)
      call expect(all(plane == field(:, :, 1)), 'blocks joined along the last dimension')
      call panta_get(found, 'value', value)
      call expect(value == 4.5, 'a value')
      flag = .false.
      call panta_get(found, 'flag', flag)
      call expect(flag, 'a logical value')
      call panta_get_text(found, 'text', text)
      call expect(text == 'zum Fluss' .and. len(text) == 9, 'a text')
      call panta_get(found, 'values', values)
      call expect(all(values == [7, 8]), 'local values')
      allocate (none(0))
      call panta_get(found, 'i4', none, [2])
      call panta_get(found, 'i4', joined, [2], count=[1])
      call expect(joined == -140000, 'one cell into a scalar')
   end subroutine

   subroutine get_together(found)
      type(panta_step), intent(in) :: found
      type(panta_batch) :: batch
      real(c_double), asynchronous :: volume(nx, ny, 2*nz), row(nx)
      logical, asynchronous :: flags(nx, ny)
      call panta_batch_open(found, batch)
      call panta_batch_get(batch, 'volume', volume)
      call panta_batch_get(batch, 'r8', row, [1])
      call panta_batch_get(batch, 'l4', flags)
      call panta_batch_finish(batch)
      call expect(all(volume(:, :, 1:2) == field), 'a volume of a batch')
      call expect(all(row == field(:, 1, 1)), 'a row of a batch')
      call expect(all(flags .eqv. mod(int(field(:, :, 1)), 2) == 0), 'logicals of a batch')
      call panta_batch_open(found, batch)
      call panta_batch_get(batch, 'l4', flags)
      call panta_batch_close(batch)
   end subroutine

   subroutine get_infos(found)
      type(panta_step), intent(in) :: found
      type(panta_variable_info) :: info
      type(panta_block_info) :: block
      type(panta_attribute) :: attribute
      integer(c_int64_t) :: large
      integer :: answer
      real(c_double) :: pi
      character(:), allocatable :: name
      call panta_find_variable(found, 'volume', info)
      call expect(all(info%shape == [nx, ny, 2*nz]) .and. info%unit == 'm', 'a shape and a unit')
      call expect(all(info%dimension_names == ['x ', 'y ', 'zz']), 'names of dimensions')
      call expect(info%coordinates(1) == 'r8' .and. all(info%chunk == [2, 2, 1]), 'coordinates')
      call expect(info%blocks == 3 .and. info%kind == PANTA_GLOBAL_ARRAY, 'blocks')
      call expect(info%stats%known .and. info%stats%min == field(1, 1, 1), 'the smallest value')
      call panta_block_at(found, 'volume', 3_c_int64_t, block)
      call expect(all(block%start == [1, 1, 4]) .and. all(block%count == [nx, ny, 1]), 'a block')
      call panta_find_variable(found, 'r4', info)
      call expect(info%relative_accuracy == 1e-2_c_double .and. info%absolute_accuracy == 0, 'an accuracy')
      call panta_find_variable(found, 'joined', info)
      call expect(info%joined_dimension == 2, 'the joined dimension')
      call panta_variable_at(found, 1_c_int64_t, info)
      call expect(info%name == 'i1', 'the first variable')
      call panta_variable_at(found, 2, info)
      call expect(info%name == 'i2', 'the second variable')
      call panta_block_at(found, 'volume', 3, block)
      call expect(all(block%start == [1, 1, 4]), 'the third block')
      call panta_attribute_at(found, 1, attribute)
      call expect(attribute%name == 'answer', 'the first attribute')
      call panta_get_attribute(found, 'answer', answer)
      call panta_get_attribute(found, 'answer', large)
      call panta_get_attribute(found, 'pi', pi)
      call panta_get_attribute(found, 'long_name', name, variable='r8')
      call expect(answer == 42 .and. large == 42 .and. pi == 3.25, 'attributes')
      call expect(name == 'temperature of it', 'the attribute of a variable')
      call panta_find_attribute(found, 'axes', attribute)
      call expect(all(attribute%texts == ['x ', 'yy']), 'an attribute of texts')
      call panta_find_attribute(found, 'many', attribute)
      call expect(all(attribute%integers == [1, -2]), 'an attribute of integers')
   end subroutine
end program round
