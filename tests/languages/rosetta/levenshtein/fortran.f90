program levenshtein
  implicit none
  character(len=64) :: source, target
  integer :: status

  do
    read (*, *, iostat=status) source, target
    if (status /= 0) exit
    print '(4a,i0)', trim(source), ' ', trim(target), ' ', distance(trim(source), trim(target))
  end do

contains

  integer function distance(source, target)
    character(len=*), intent(in) :: source, target
    integer :: cost(0:len(source), 0:len(target))
    integer :: row, column

    cost(:, 0) = [(row, row=0, len(source))]
    cost(0, :) = [(column, column=0, len(target))]
    do column = 1, len(target)
      do row = 1, len(source)
        cost(row, column) = min(cost(row - 1, column) + 1, cost(row, column - 1) + 1, &
                                cost(row - 1, column - 1) + merge(0, 1, source(row:row) == target(column:column)))
      end do
    end do
    distance = cost(len(source), len(target))
  end function distance

end program levenshtein
