program queens
  implicit none
  integer :: board(8), size

  do size = 1, 8
    print '(i0,a,i0)', size, ' queens: ', solutions(size, 1)
  end do

contains

  recursive integer function solutions(size, row) result(found)
    integer, intent(in) :: size, row
    integer :: column

    found = 0
    if (row > size) then
      found = 1
      return
    end if
    do column = 1, size
      if (is_free(row, column)) then
        board(row) = column
        found = found + solutions(size, row + 1)
      end if
    end do
  end function solutions

  logical function is_free(row, column)
    integer, intent(in) :: row, column
    integer :: above, distances(row - 1)
    distances = abs(board(:row - 1) - column)
    is_free = all(distances /= 0 .and. distances /= [(row - above, above=1, row - 1)])
  end function is_free

end program queens
