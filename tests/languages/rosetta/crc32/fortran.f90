program checksums
  use, intrinsic :: iso_fortran_env, only: int64
  implicit none
  character(len=200) :: line
  integer :: status

  do
    read (*, '(a)', iostat=status) line
    if (status /= 0) exit
    print '(a)', hexadecimal(crc32(trim(line)))
  end do

contains

  integer(int64) function crc32(text)
    character(len=*), intent(in) :: text
    integer(int64), parameter :: ones = int(z'ffffffff', int64), polynomial = int(z'edb88320', int64)
    integer :: position, bit

    crc32 = ones
    do position = 1, len(text)
      crc32 = ieor(crc32, int(iachar(text(position:position)), int64))
      do bit = 1, 8
        crc32 = ieor(shiftr(crc32, 1), merge(polynomial, 0_int64, btest(crc32, 0)))
      end do
    end do
    crc32 = ieor(crc32, ones)
  end function crc32

  function hexadecimal(number) result(digits)
    integer(int64), intent(in) :: number
    character(len=*), parameter :: all_digits = '0123456789abcdef'
    character(len=8) :: digits
    integer :: position, digit
    do position = 1, len(digits)
      digit = int(ibits(number, 4 * (len(digits) - position), 4))
      digits(position:position) = all_digits(digit + 1:digit + 1)
    end do
  end function hexadecimal

end program checksums
