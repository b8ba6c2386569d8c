program greedy
  implicit none
  type :: block
    real, allocatable :: values(:)
  end type block
  type(block) :: blocks(100000)
  integer :: count

  do count = 1, size(blocks)
    allocate (blocks(count)%values(4194304), source=1.0)
  end do
end program greedy
