use proptest::prelude::*;

use super::*;

/// A file with this header and content.
fn npy(header: &str, content: &[u8]) -> Vec<u8> {
    let length = header.len() as u16;
    [b"\x93NUMPY\x01\x00", &length.to_le_bytes()[..], header.as_bytes(), content].concat()
}

fn numbers(descr: &str, content: &[u8]) -> Result<Vec<f32>, String> {
    let size = content.len() / descr[2..].parse::<usize>().unwrap();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({size},), }}\n");
    read_npy(&npy(&header, content)).map(|array| array.numbers).map_err(|error| error.to_string())
}

#[test]
fn every_type_of_numbers_is_read() {
    assert_eq!(numbers("<f4", &1.5f32.to_le_bytes()), Ok(vec![1.5]));
    assert_eq!(numbers(">f4", &1.5f32.to_be_bytes()), Ok(vec![1.5]));
    assert_eq!(numbers("<f8", &(-0.25f64).to_le_bytes()), Ok(vec![-0.25]));
    // 1, the smallest number above 0, the largest number, and -infinity.
    let halves: Vec<u8> =
        [0x3c00u16, 1, 0x7bff, 0xfc00].iter().flat_map(|half| half.to_le_bytes()).collect();
    let expected = vec![1.0, f32::powi(2.0, -24), 65504.0, f32::NEG_INFINITY];
    assert_eq!(numbers("<f2", &halves), Ok(expected));
    assert!(numbers("<f2", &0x7c01u16.to_le_bytes()).unwrap()[0].is_nan());
    assert_eq!(numbers("|u1", &[0, 255]), Ok(vec![0.0, 255.0]));
    assert_eq!(numbers("|b1", &[0, 1]), Ok(vec![0.0, 1.0]));
    assert_eq!(numbers("|i1", &[255, 127]), Ok(vec![-1.0, 127.0]));
    assert_eq!(numbers(">i2", &(-300i16).to_be_bytes()), Ok(vec![-300.0]));
    assert_eq!(numbers("<u4", &u32::MAX.to_le_bytes()), Ok(vec![u32::MAX as f32]));
    assert_eq!(numbers("<i8", &i64::MIN.to_le_bytes()), Ok(vec![i64::MIN as f32]));
    let error = numbers("<c8", &[0; 8]).unwrap_err();
    assert!(error.contains("\"<c8\"") && error.contains("float32"), "{error}");
}

#[test]
fn the_order_of_the_numbers_is_kept() {
    let content: Vec<u8> = (0..6).collect();
    let with = |order: &str| {
        let header = format!("{{'descr': '|u1', 'fortran_order': {order}, 'shape': (2, 3), }}");
        read_npy(&npy(&header, &content)).unwrap()
    };
    assert_eq!(with("False").numbers, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(with("True").numbers, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    assert_eq!(with("True").shape, [2, 3]);
}

#[test]
fn what_is_wrong_is_said() {
    let error = |bytes: &[u8]| read_npy(bytes).unwrap_err().to_string();
    assert_eq!(error(b"PK"), "it is not a .npy file of NumPy");
    assert_eq!(error(b"\x93NUMPY\x01"), "its header is damaged: the file ends in it");
    assert!(error(&npy("{'shape': (3,)}", &[])).contains("'descr'"));
    assert!(error(&npy("{'descr': '<f4', 'shape': (3,)}", &[])).contains("'fortran_order'"));
    let sizes = |sizes: &str| {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {sizes}, }}");
        error(&npy(&header, &[0; 8]))
    };
    assert_eq!(sizes("(3,)"), "it has 8 bytes of numbers, but its shape [3] needs 12");
    let huge = "(18446744073709551615, 2)";
    assert!(sizes(huge).contains(&format!("needs {}", u64::MAX)));
    assert!(sizes("(-1,)").contains("not a list of sizes"));
    assert!(sizes("3").contains("not a list of sizes"));
    let record = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }";
    assert!(error(&npy(record, &[])).contains("type"));
    let error = read_npz(b"PK nothing").unwrap_err().to_string();
    assert!(error.starts_with("it is not a .npz file"), "{error}");
    let mut broken = ZipWriter::new(Cursor::new(Vec::new()));
    broken.start_file("x.npy", SimpleFileOptions::default()).unwrap();
    let error = read_npz(&broken.finish().unwrap().into_inner()).unwrap_err().to_string();
    assert_eq!(error, "the array \"x\": it is not a .npy file of NumPy");
}

/// A compressed `.npz` file with these members.
fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in members {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An array of bytes of this shape.
fn bytes(shape: &str, content: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"), content)
}

#[test]
fn the_arrays_of_a_file_have_one_limit() {
    // Each array takes 4000 bytes in float32, and 8 for its shape.
    let member = || bytes("(1000,)", &[7; 1000]);
    let file = npz(&[("a", member()), ("b", member())]);
    assert!(file.len() < 1000);
    assert_eq!(read_within(&file, 8016).unwrap().len(), 2);
    let error = read_within(&file, 8015).unwrap_err().to_string();
    assert!(error.starts_with("its arrays up to \"b\" need more than"), "{error}");
    // The header is enough to refuse an array, even if its numbers are missing.
    for shape in ["(536870912,)", "(18446744073709551615, 2)"] {
        let error = read_npz(&npz(&[("x", bytes(shape, &[]))])).unwrap_err();
        assert!(matches!(error, ArrayError::TooLarge { .. }), "{error}");
    }
    let axes = bytes(&format!("({})", "0,".repeat(1000)), &[]);
    assert!(read_within(&npz(&[("x", axes.clone())]), 8000).is_ok());
    assert!(read_within(&npz(&[("x", axes)]), 7999).is_err());
}

#[test]
fn a_member_of_another_length_than_its_shape_says_is_refused() {
    let error = |length: usize| {
        let member = bytes("(100000,)", &vec![0; length]);
        read_npz(&npz(&[("x", member)])).unwrap_err().to_string()
    };
    for length in [0, 99_999, 100_001, 300_000] {
        let said = format!("the array \"x\": it has {length} bytes of numbers, but its shape");
        assert!(error(length).starts_with(&said), "{}", error(length));
    }
}

#[test]
fn the_same_arrays_give_the_same_bytes() {
    let array = |n: usize| NumberArray { shape: vec![n], numbers: vec![0.5; n] };
    let arrays = [("b".to_owned(), array(2)), ("a".to_owned(), array(0))];
    let file = write_npz(&arrays).unwrap();
    assert_eq!(file, write_npz(&arrays).unwrap());
    assert_eq!(read_npz(&file).unwrap(), arrays);
    assert!(write_npz(&[arrays[0].clone(), arrays[0].clone()]).is_err());
}

proptest! {
    #[test]
    fn arrays_come_back(shape in prop::collection::vec(0usize..4, 0..5), seed: u32) {
        let count = shape.iter().product();
        let numbers = (0..count).map(|i| (i as f32 + seed as f32).sin()).collect();
        let array = NumberArray { shape, numbers };
        let file = write_npy(&array);
        let length = file.len() - 4 * count;
        prop_assert_eq!(length % 64, 0);
        prop_assert_eq!(read_npy(&file).unwrap(), array);
    }

    #[test]
    fn damaged_files_are_errors(place in 0usize..200, byte: u8) {
        let array = NumberArray { shape: vec![3, 4], numbers: vec![1.0; 12] };
        let mut npy = write_npy(&array);
        let at = place % npy.len();
        npy[at] = byte;
        let _ = read_npy(&npy);
        let mut npz = write_npz(&[("x".to_owned(), array)]).unwrap();
        let at = place % npz.len();
        npz[at] = byte;
        let _ = read_npz(&npz);
        let _ = read_npz(&npz[..at]);
    }
}
