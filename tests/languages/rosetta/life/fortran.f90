program life
  implicit none
  character(len=64) :: lines(64)
  integer, allocatable :: grid(:, :), around(:, :)
  integer :: height, width, status, row, column, generation, down, right

  height = 0
  do
    read (*, '(a)', iostat=status) lines(height + 1)
    if (status /= 0) exit
    height = height + 1
  end do
  width = len_trim(lines(1))
  allocate (grid(height, width), around(height, width))
  do row = 1, height
    grid(row, :) = [(merge(1, 0, lines(row)(column:column) == '#'), column=1, width)]
  end do

  do generation = 1, 12
    around = -grid
    do down = -1, 1
      do right = -1, 1
        around = around + cshift(cshift(grid, down, dim=1), right, dim=2)
      end do
    end do
    grid = merge(1, 0, around == 3 .or. (around == 2 .and. grid == 1))
  end do

  do row = 1, height
    print '(*(a))', (merge('#', '.', grid(row, column) == 1), column=1, width)
  end do
end program life
