"""Who a scan is of, so that it is never said.

DICOM headers name the patient; so do, often, the folders and files that they lie in. What is printed, drawn, reported
or called after a DICOM file is therefore made of the hash of its series alone, and where the name of a file must be
given, because it can't be read, every word of it that a header knows the patient by is left out.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

# Values by which a person can be found; PN is any name, of the patient, the physician or the operator.
_TAGS = frozenset(
    ["PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientBirthTime", "PatientAddress", "PatientComments"]
    + ["PatientTelephoneNumbers", "PatientMotherBirthName", "AdditionalPatientHistory", "IssuerOfPatientID"]
    + ["AccessionNumber", "StudyID", "AdmissionID", "MedicalRecordLocator", "InstitutionName", "InstitutionAddress"]
    + ["StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate"]
)
_HIDDEN = "***"


def words(header: Any) -> frozenset[str]:
    """What names the person in a header, in lower case: whole values, and the parts of names."""
    found: set[str] = set()
    for element in header:
        if element.VR != "PN" and element.keyword not in _TAGS:
            continue
        values = element.value if isinstance(element.value, list | tuple) or element.VM > 1 else [element.value]
        for value in values:
            text = str(value or "").lower()
            found.add(text)
            found.update(re.split(r"[\W_]+", text))
    return frozenset(word for word in found if len(word) > 1)


def hide(name: str, known: Iterable[str]) -> str:
    """`name` with every word of `known` in it replaced by asterisks.

    Words of four letters and more are found anywhere, shorter ones between separators only: "Li" is no part of "slice".
    """
    for word in sorted(known, key=lambda w: (-len(w), w)):
        pattern = re.escape(word)
        if len(word) < 4:
            pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
        name = re.sub(pattern, _HIDDEN, name, flags=re.IGNORECASE)
    return name


def neutral(kind: str, uid: str) -> str:
    """A name made of a hash: "series-3f9c2b1a"."""
    return f"{kind}-{hashlib.blake2b(uid.encode(), digest_size=4).hexdigest()}"
