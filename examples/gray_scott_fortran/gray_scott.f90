! gray_scott: the Gray-Scott system in three dimensions, in Fortran under MPI, that
! sends its fields to a stream. The same model as examples/gray_scott, bit for bit,
! cut into slabs along z; what is said to Panta stands in open_stream and write_step.
!
!   mpifort -O2 -ffp-contract=off -fwrapv gray_scott.f90 ... -lpanta -o gray_scott
!   mpirun -n 4 ./gray_scott [SIZE [STEPS [OUTPUT_EVERY [STREAM]]]]
!
! docs/fortran.md says what is compiled with it. Where the stream goes is not this
! program's business: PANTA_URL_GRAY_SCOTT or panta.toml says it. Fields are (x, y, z)
! here, x fastest, and u[z][y][x] to readers in C: the same array.
program gray_scott
   use mpi_f08
   use panta
   use panta_mpi
   use, intrinsic :: iso_fortran_env, only: int64, real64
   implicit none
   real(real64), parameter :: du = 0.6_real64, dv = 0.3_real64, feed = 0.025_real64
   real(real64), parameter :: kill = 0.055_real64, dt = 1.0_real64, noise = 0.001_real64
   integer(int64), parameter :: seed = 1

   ! u and v on this rank's slab, with a layer of ghost cells all around.
   real(real64), allocatable :: u(:, :, :), v(:, :, :), next_u(:, :, :), next_v(:, :, :)
   integer :: cells, first, layers, rank, size, step, steps, output_every
   character(256) :: name
   type(panta_writer) :: out
   type(panta_variable) :: u_out, v_out

   call MPI_Init()
   call MPI_Comm_rank(MPI_COMM_WORLD, rank)
   call MPI_Comm_size(MPI_COMM_WORLD, size)
   cells = option(1, 64)
   steps = option(2, 3000)
   output_every = option(3, 100)
   name = 'gray_scott'
   if (command_argument_count() >= 4) call get_command_argument(4, name)
   call make_fields()

   call open_stream()
   call write_step(0)
   do step = 1, steps
      call fill_ghosts(u)
      call fill_ghosts(v)
      call advance(int(step - 1, int64))
      if (mod(step, output_every) == 0 .or. step == steps) call write_step(step)
   end do
   call panta_writer_close(out)
   call MPI_Finalize()

contains

   ! ---- What is said to Panta ----

   subroutine open_stream()
      type(panta_comm) :: comm
      call panta_comm_mpi(MPI_COMM_WORLD, comm)
      call panta_writer_open(name, out, comm)
      call panta_comm_close(comm)
      call panta_define(out, u_out, 'u', PANTA_F64, [cells, cells, cells], ['x', 'y', 'z'], '1')
      call panta_define(out, v_out, 'v', PANTA_F64, [cells, cells, cells], ['x', 'y', 'z'], '1')
   end subroutine

   subroutine write_step(number)
      integer, intent(in) :: number
      call panta_begin_step(out, number*dt)
      call panta_put(out, u_out, u(1:cells, 1:cells, 1:layers), [1, 1, first + 1])
      call panta_put(out, v_out, v(1:cells, 1:cells, 1:layers), [1, 1, first + 1])
      call panta_end_step(out)
   end subroutine

   ! ---- The model ----

   integer function option(position, default)
      integer, intent(in) :: position, default
      character(32) :: given
      option = default
      if (command_argument_count() < position) return
      call get_command_argument(position, given)
      read (given, *) option
   end function

   ! The initial state: u = 1 and v = 0, but for a cube in the centre.
   subroutine make_fields()
      integer :: half, low, high, bottom, top
      first = int(int(cells, int64)*rank/size)
      layers = int(int(cells, int64)*(rank + 1)/size) - first
      if (layers < 1) error stop 'gray_scott: fewer layers of cells than ranks'
      allocate (u(0:cells + 1, 0:cells + 1, 0:layers + 1), source=1.0_real64)
      allocate (v, next_u, next_v, mold=u) ! with its bounds
      v = 0
      half = min(max(cells/10, 4), cells/2)
      low = cells/2 - half + 1
      high = cells/2 + half
      bottom = max(low - first, 1)
      top = min(high - first, layers)
      u(low:high, low:high, bottom:top) = 0.25_real64
      v(low:high, low:high, bottom:top) = 0.33_real64
   end subroutine

   ! Along z from the neighbours, else from the other side. Faces only; the stencil
   ! reads no edge or corner.
   subroutine fill_ghosts(field)
      real(real64), intent(inout) :: field(0:cells + 1, 0:cells + 1, 0:layers + 1)
      integer :: layer, below, above
      layer = (cells + 2)**2
      below = mod(rank + size - 1, size)
      above = mod(rank + 1, size)
      field(1:cells, 0, 1:layers) = field(1:cells, cells, 1:layers)
      field(1:cells, cells + 1, 1:layers) = field(1:cells, 1, 1:layers)
      field(0, 1:cells, 1:layers) = field(cells, 1:cells, 1:layers)
      field(cells + 1, 1:cells, 1:layers) = field(1, 1:cells, 1:layers)
      call MPI_Sendrecv(field(:, :, 1), layer, MPI_DOUBLE_PRECISION, below, 0, &
                        field(:, :, layers + 1), layer, MPI_DOUBLE_PRECISION, above, 0, &
                        MPI_COMM_WORLD, MPI_STATUS_IGNORE)
      call MPI_Sendrecv(field(:, :, layers), layer, MPI_DOUBLE_PRECISION, above, 1, &
                        field(:, :, 0), layer, MPI_DOUBLE_PRECISION, below, 1, &
                        MPI_COMM_WORLD, MPI_STATUS_IGNORE)
   end subroutine

   ! The sum over the six neighbours, in an order that all of these programs keep.
   pure real(real64) function around(f, x, y, z)
      real(real64), intent(in) :: f(0:, 0:, 0:)
      integer, intent(in) :: x, y, z
      around = ((((f(x - 1, y, z) + f(x + 1, y, z)) + f(x, y - 1, z)) + f(x, y + 1, z)) &
                + f(x, y, z - 1)) + f(x, y, z + 1)
   end function

   ! One step of Euler.
   subroutine advance(number)
      integer(int64), intent(in) :: number
      integer(int64) :: at_step, cell
      real(real64) :: laplace_u, laplace_v, random, reaction, rate_u, rate_v, a, b
      integer :: x, y, z
      at_step = mix(ieor(seed, mix(number)))
      do z = 1, layers
         do y = 1, cells
            do x = 1, cells
               a = u(x, y, z)
               b = v(x, y, z)
               laplace_u = around(u, x, y, z)/6.0_real64 - a
               laplace_v = around(v, x, y, z)/6.0_real64 - b
               cell = (int(first + z - 1, int64)*cells + y - 1)*cells + x - 1
               random = noise*unit(mix(ieor(at_step, cell)))
               reaction = (a*b)*b
               rate_u = ((du*laplace_u - reaction) + feed*(1.0_real64 - a)) + random
               rate_v = (dv*laplace_v + reaction) - (feed + kill)*b
               next_u(x, y, z) = a + dt*rate_u
               next_v(x, y, z) = b + dt*rate_v
            end do
         end do
      end do
      call swap(u, next_u)
      call swap(v, next_v)
   end subroutine

   subroutine swap(one, other)
      real(real64), allocatable, intent(inout) :: one(:, :, :), other(:, :, :)
      real(real64), allocatable :: held(:, :, :)
      call move_alloc(one, held)
      call move_alloc(other, one)
      call move_alloc(held, other)
   end subroutine

   ! A bijection on 64 bits under which neighbouring inputs have unrelated outputs: the
   ! finaliser of SplitMix64. Products and sums wrap round: compile with -fwrapv.
   pure integer(int64) function mix(value)
      integer(int64), intent(in) :: value
      mix = value - 7046029254386353131_int64
      mix = ieor(mix, shiftr(mix, 30))*(-4658895280553007687_int64)
      mix = ieor(mix, shiftr(mix, 27))*(-7723592293110705685_int64)
      mix = ieor(mix, shiftr(mix, 31))
   end function

   ! 53 bits of `hash` as a number in [-1, 1).
   pure real(real64) function unit(hash)
      integer(int64), intent(in) :: hash
      unit = real(shiftr(hash, 11), real64)*2.0_real64**(-52) - 1.0_real64
   end function
end program gray_scott
